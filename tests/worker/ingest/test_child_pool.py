"""Children that crash, hang or eat memory: each costs its own file and no other."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from shared.errors import InternalError
from tests.worker import warm_children
from tests.worker.processes import ROOT, is_running, wait_until
from worker import machine_memory
from worker.ingest.child_pool import (
    Work,
    count_children,
    run_in_children,
    start_server,
)

ROUGH = "tests.worker.ingest.rough_work"


@pytest.fixture(scope="module", autouse=True)
def _server():
    warm_children.start_server()


def run(wishes, **work):
    """Returns the last outcome of each task, in the order in which they came."""
    return {one.key: one for one in run_all(wishes, **work) if one.is_last}


def run_all(wishes, *, seconds=30.0, children=2, function="work", **work):
    settings = {"module": ROUGH, "memory_bytes": 2**30, **work}
    tasks = [(at, wish if isinstance(wish, tuple) else (wish,)) for at, wish in wishes]
    job = Work(function=function, seconds=seconds, children=children, **settings)
    return run_in_children(job, tasks)


def run_among_good(wish, **work):
    """Runs one wish among good ones; returns its fault."""
    outcomes = run(enumerate(["good", "good", wish, "good", "good"]), **work)

    good = [outcomes[at].result for at in (0, 1, 3, 4)]
    assert good == ["good, done"] * 4
    return outcomes[2].fault


def test_every_task_is_done_once():
    outcomes = run(enumerate(str(number) for number in range(50)))

    assert {key: one.result for key, one in outcomes.items()} == {
        number: f"{number}, done" for number in range(50)
    }


@pytest.mark.parametrize(
    ("wish", "code", "words"),
    [
        ("crash", "decoder_crashed", "SIGSEGV"),
        ("exit", "decoder_crashed", "exit code 3"),
        ("killed", "out_of_memory", "more memory"),
        ("memory", "out_of_memory", "more memory"),
        ("fault", "damaged", "It is damaged."),
        ("bad sector", "unreadable", "It cannot be read: Input/output error."),
        ("decoder", "not_decodable", "image file is truncated"),
        ("bug", "not_decodable", "ZeroDivisionError"),
    ],
)
def test_one_bad_task_costs_only_itself(wish, code, words):
    fault = run_among_good(wish)

    assert fault.code == code
    assert words in fault.reason


@pytest.mark.parametrize("wish", ["hang", "loop"])
def test_a_task_that_never_ends_is_ended_at_its_limit(wish):
    start = time.monotonic()

    fault = run_among_good(wish, seconds=1.0)

    assert fault.code == "timeout"
    assert "1 seconds" in fault.reason
    assert time.monotonic() - start < 30


def test_a_task_whose_child_died_gets_a_second_chance(tmp_path):
    outcomes = run([(0, ("crash once", str(tmp_path)))])

    assert outcomes[0].result == "alive, done"


@pytest.mark.parametrize("wish", ["hang once", "killed twice"])
def test_what_may_be_the_machines_fault_is_tried_again_at_the_end(wish, tmp_path):
    wishes = [(0, (wish, str(tmp_path))), *((at, "good") for at in range(1, 40))]

    outcomes = run(wishes, seconds=2.0)

    assert [one.fault for one in outcomes.values() if one.fault] == []
    assert list(outcomes)[-1] == 0


def test_what_always_takes_too_long_is_not_waited_for_without_end(tmp_path):
    wishes = [(at, ("hang always", str(tmp_path))) for at in range(14)]

    outcomes = list(run_all(wishes, seconds=0.5))

    assert {one.fault.code for one in outcomes} == {"timeout"}
    # Each is told of when it is put off, and not only at the end.
    assert [one.is_last for one in outcomes] == [False] * 14 + [True] * 14
    assert {one.key for one in outcomes[:14]} == set(range(14))
    assert {one.key for one in outcomes[14:]} == set(range(14))
    assert 14 < (tmp_path / "tries").stat().st_size <= 14 + 10


@pytest.mark.parametrize(
    ("machine_gb", "most_gib", "children"),
    [(2, 4, 1), (5, 4, 1), (6, 4, 3), (8, 4, 5), (16, 4, 14), (64, 4, 16), (2, 0.5, 3)],
)
def test_the_machine_holds_one_child_at_its_limit_beside_usual_ones(
    tmp_path, monkeypatch, machine_gb, most_gib, children
):
    memory = psutil.virtual_memory()._replace(total=machine_gb * 10**9)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    monkeypatch.setattr(machine_memory, "CONTROL_GROUPS", tmp_path)
    most = int(most_gib * 2**30)
    work = Work("any", "work", seconds=1, memory_bytes=most, children=16)

    assert count_children(work) == children


def test_many_crashes_in_a_row_end_nothing_else():
    wishes = [(at, "crash" if at % 3 else "good") for at in range(30)]

    outcomes = run(wishes)

    assert sum(one.fault is not None for one in outcomes.values()) == 20
    assert sum(one.result == "good, done" for one in outcomes.values()) == 10


def test_a_full_disk_ends_the_whole_run():
    with pytest.raises(OSError, match="No space left"):
        run(enumerate(["good", "disk"]))


def test_a_disk_that_we_cannot_write_to_ends_the_whole_run_with_the_file():
    with pytest.raises(OSError, match="Input/output error: '/data/x'"):
        run(enumerate(["good", "own disk"]))


def test_children_that_cannot_start_are_our_fault():
    with pytest.raises(InternalError, match="before they start"):
        run(enumerate(["good"]), module="tests.worker.ingest.no_such_module")


def test_a_server_that_cannot_start_is_our_fault(tmp_path, monkeypatch):
    (tmp_path / "broken_work.py").write_text("this is no Python")
    script = (
        "from tests.worker.ingest.test_child_pool import run\n"
        "run(enumerate(['good']), module='broken_work')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False
    )

    assert b"InternalError: The proving processes' server is gone." in done.stderr


def test_children_are_used_again_and_gone_afterwards():
    outcomes = run(enumerate(range(40)), function="tell_process")

    pids = {one.result for one in outcomes.values()}
    assert len(pids) <= 2
    wait_until(lambda: not any(map(is_running, pids)))


def test_no_child_outlives_a_parent_that_was_killed():
    script = (
        "from tests.worker.ingest.test_child_pool import run\n"
        "run(enumerate(['loop', 'hang']), seconds=600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    process = psutil.Process(parent.pid)
    wait_until(lambda: len(process.children(recursive=True)) >= 4, 60)
    time.sleep(1)
    family = [child.pid for child in process.children(recursive=True)]

    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()

    wait_until(lambda: not any(map(is_running, family)))


def test_what_a_dead_child_had_at_hand_is_done_by_others():
    """Small tasks are handed out in advance; none is lost or blamed."""
    wishes = [(at, "crash" if at == 150 else "good") for at in range(300)]

    outcomes = run(wishes)

    assert [key for key, one in outcomes.items() if one.fault is not None] == [150]
    assert len(outcomes) == 300


def test_a_slow_task_holds_up_no_other():
    """The rest is done by the other child while one is at its limit."""
    wishes = [(at, "hang" if at == 20 else "good") for at in range(200)]
    job = {"function": "work", "seconds": 3.0}
    ended = list(run(wishes, **job))

    assert ended.index(20) > 100
    assert len(ended) == 200


def test_a_server_that_was_started_early_is_used():
    start_server(ROUGH)

    assert run([(0, "good")])[0].result == "good, done"
