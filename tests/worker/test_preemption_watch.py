"""A notice that the machine goes: its job is given back, and it takes no other."""

import shlex
import sys

import pytest

from shared import worker_store
from shared.errors import UserError
from tests.worker.processes import wait_until
from worker.preemption_watch import PreemptionWatch


def watch_file(path):
    test = f"import os, sys; sys.exit(not os.path.exists({str(path)!r}))"
    return shlex.join([sys.executable, "-c", test])


def test_a_notice_gives_the_running_job_back_and_no_other_is_taken(fleet, tmp_path):
    notice = tmp_path / "notice"
    fleet.start_worker(TRAINYARD_PREEMPTION_COMMAND=watch_file(notice))
    job_id = fleet.shop.submit(steps=2000)
    fleet.wait_for_metrics(job_id)

    notice.write_text("")
    fleet.wait_for_state(job_id, "queued")

    (attempt,) = fleet.shop.attempts(job_id)
    assert (attempt.outcome, attempt.charged) == ("preempted", False)
    assert fleet.shop.job(job_id).last_step > 0

    def drains():
        (row,) = fleet.workers_seen()
        return row.status == worker_store.DRAINING and row.reason

    assert "about to be taken away" in wait_until(drains, 10, "the worker to drain")
    assert fleet.shop.job(job_id).attempts == 1


def test_a_machine_that_goes_takes_nothing_at_its_start(fleet, tmp_path):
    fleet.start_worker(TRAINYARD_PREEMPTION_COMMAND="true")
    job_id = fleet.shop.submit(steps=5)
    wait_until(
        lambda: any(r.status == "draining" for r in fleet.workers_seen()),
        20,
        "a worker",
    )

    assert fleet.shop.job(job_id).attempts == 0


@pytest.mark.parametrize("command", ["false", "no-such-program", "sleep 60"])
def test_a_command_that_says_nothing_is_no_notice(command, monkeypatch):
    monkeypatch.setattr("worker.preemption_watch.COMMAND_SECONDS", 0.2)
    told = []
    watch = PreemptionWatch(command, lambda: told.append(True))

    watch.start()
    watch.stop()

    assert (watch.is_preempted, told) == (False, [])


def test_a_command_that_is_none_is_named():
    with pytest.raises(UserError, match="TRAINYARD_PREEMPTION_COMMAND is no command"):
        PreemptionWatch("test -e 'notice", lambda: None)
