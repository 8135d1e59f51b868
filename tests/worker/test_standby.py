"""A child that stands by: whoever dies, and whenever, no job and no slot is lost.

Real worker processes, real guardians, the real pipe protocol; only what trains is a
toy. `SLOW` attempts run until they are ended.
"""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from shared import job_store
from tests.worker.fleet import straight_run
from tests.worker.processes import is_running, seconds_until_gone, wait_until
from tests.worker.workshop import TOY_STANDBYS
from worker import slots
from worker.programs import build_environment
from worker.slots import Slot
from worker.standby import Standby
from worker.supervisor import supervise

SLOW = {"steps": 2000, "step_seconds": 0.02}


@pytest.fixture
def lock(shop):
    lock = slots.acquire(
        shop.settings.runtime, Slot("cpu", ("train",)), grace_seconds=1
    )
    yield lock
    lock.release()


@pytest.fixture
def standby(shop, lock):
    standby = Standby(shop.settings, Slot("cpu", ("train",)), TOY_STANDBYS)
    assert standby.prepare(lock)
    yield standby
    standby.end()


def children():
    found = psutil.Process().children(recursive=True)
    return [p for p in found if "worker.guardian" not in p.cmdline()]


def waiting_children():
    return [p for p in children() if any("toy_standby" in w for w in p.cmdline())]


def waiting_child():
    return wait_until(waiting_children, what="the waiting child")[0]


def imported(shop):
    path = shop.settings.runtime / "standby-cpu" / "stdout.log"
    return path.exists() and "imported" in path.read_text()


class TestJob:
    def test_waiting_child_does_the_job(self, fleet):
        expected = straight_run(fleet, steps=60)
        fleet.start_worker()
        standby = fleet.standby()
        job_id = fleet.shop.submit(steps=60)
        trainer = fleet.trainer()
        fleet.wait_for_state(job_id, "succeeded")

        assert trainer == standby
        assert len(fleet.shop.attempts(job_id)) == 1
        assert fleet.shop.weights(job_id) == expected

    def test_it_serves_one_attempt_and_another_waits_then(self, fleet):
        fleet.start_worker()
        first = fleet.standby()
        job_id = fleet.shop.submit(steps=5)
        fleet.wait_for_state(job_id, "succeeded")
        wait_until(lambda: not is_running(first))

        assert fleet.standby() != first

    def test_next_one_is_ready_before_the_job_has_ended(self, fleet):
        fleet.start_worker()
        fleet.standby()
        job_id = fleet.shop.submit(steps=5, evaluate_seconds=3)
        following = wait_until(lambda: fleet.trainers() and fleet.standbys(), 10)[0]
        assert fleet.shop.job(job_id).state == "running"
        other = fleet.shop.submit(steps=100)
        fleet.wait_for_state(job_id, "succeeded")
        fleet.wait_for_step(other)

        assert fleet.trainers() == [following]

    def test_output_of_a_job_lies_in_its_own_folder(self, shop, lock, standby):
        wait_until(lambda: imported(shop))
        job_id = shop.submit(
            steps=3, faults=[{"step": 1, "do": "exit", "code_number": 70}]
        )
        claim = shop.claim()
        supervise(shop.workplace(standby=standby), claim, lock)

        errors = (shop.folder(claim) / "stderr.log").read_text()
        assert errors == "Traceback: the toy broke\n"
        assert (shop.folder(claim) / "stdout.log").read_text() == ""
        assert shop.attempts(job_id)[0].outcome == "failed"

    def test_environment_is_that_of_a_child_started_at_once(self, shop, lock, standby):
        tell = [{"step": 1, "do": "tell_environment"}]
        told = []
        for place in (shop.workplace(standby=standby), shop.workplace()):
            shop.submit(steps=3, faults=tell)
            claim = shop.claim()
            supervise(place, claim, lock)
            path = shop.folder(claim) / "environment.json"
            told.append(json.loads(path.read_text()))
        for environment in told:
            del environment["TRAINYARD_EVENTS_FD"]

        assert told[0].pop("PWD", None) == told[1].pop("PWD", None)
        assert told[0] == told[1]

    def test_finish_asked_early_is_obeyed(self, shop, lock, standby):
        job_id = shop.submit(**SLOW)
        claim = shop.claim()
        shop.ask(job_store.finish_now, job_id)
        supervise(shop.workplace(standby=standby), claim, lock)

        assert shop.job(job_id).state == "succeeded"


class TestDeaths:
    def test_killed_worker_takes_its_waiting_child_along(self, fleet):
        worker = fleet.start_worker()
        standby = fleet.standby()
        guardian = psutil.Process(standby).ppid()
        worker.kill()

        assert seconds_until_gone(standby) < 2
        assert seconds_until_gone(guardian) < 2

    def test_killed_guardian_takes_the_waiting_child_along(self, fleet):
        fleet.start_worker()
        standby = fleet.standby()
        os.kill(psutil.Process(standby).ppid(), signal.SIGKILL)

        assert seconds_until_gone(standby) < 1

    def test_frozen_worker_loses_its_waiting_child_after_a_lease(self, fleet):
        worker = fleet.start_worker()
        standby = fleet.standby()
        worker.send_signal(signal.SIGSTOP)
        assert seconds_until_gone(standby) < fleet.shop.settings.lease_seconds + 2
        worker.send_signal(signal.SIGCONT)
        job_id = fleet.shop.submit(steps=5)

        fleet.wait_for_state(job_id, "succeeded")

    def test_idle_worker_keeps_its_waiting_child_for_many_leases(self, fleet):
        fleet.start_worker()
        standby = fleet.standby()
        time.sleep(2.5 * fleet.shop.settings.lease_seconds)

        assert fleet.standbys() == [standby]

    def test_job_starts_afresh_when_the_waiting_child_was_killed(self, fleet):
        fleet.start_worker()
        os.kill(fleet.standby(), signal.SIGKILL)
        job_id = fleet.shop.submit(steps=20)
        fleet.wait_for_state(job_id, "succeeded")

        (attempt,) = fleet.shop.attempts(job_id)
        assert attempt.outcome == "succeeded"
        fleet.standby()  # and another one waits after the attempt

    def test_job_starts_afresh_in_the_same_attempt_when_it_dies_unheard(
        self, shop, lock, standby, monkeypatch
    ):
        child = standby._child
        told = child.hand_over

        def kill_then_tell(*order):
            os.kill(waiting_child().pid, signal.SIGKILL)
            told(*order)

        monkeypatch.setattr(child, "hand_over", kill_then_tell)
        job_id = shop.submit(steps=20)
        supervise(shop.workplace(standby=standby), shop.claim(), lock)

        (attempt,) = shop.attempts(job_id)
        assert (attempt.outcome, shop.job(job_id).state) == ("succeeded", "succeeded")

    def test_killed_while_it_trains_it_is_resumed_like_any_trainer(self, fleet):
        expected = straight_run(fleet, steps=60)
        fleet.start_worker()
        fleet.standby()
        job_id = fleet.shop.submit(steps=60)
        fleet.wait_for_step(job_id)
        os.kill(fleet.trainer(), signal.SIGKILL)
        fleet.wait_for_state(job_id, "succeeded")

        first, second = fleet.shop.attempts(job_id)
        assert (first.outcome, first.charged) == ("killed", False)
        assert second.start_step >= 10
        assert fleet.shop.weights(job_id) == expected

    def test_worker_killed_while_it_trains_leaves_no_trainer(self, fleet):
        worker = fleet.start_worker()
        standby = fleet.standby()
        job_id = fleet.shop.submit(**SLOW)
        fleet.wait_for_step(job_id)
        worker.kill()

        assert seconds_until_gone(standby) < fleet.shop.settings.stop_grace_seconds + 2
        assert not list(fleet.trainers())

    def test_new_worker_ends_a_stubborn_orphan_that_stood_by(self, fleet):
        worker = fleet.start_worker()
        standby = fleet.standby()
        os.kill(standby, signal.SIGSTOP)  # SIGTERM alone does not end it now
        guardian = psutil.Process(standby).ppid()
        os.kill(guardian, signal.SIGSTOP)
        worker.kill()
        job_id = fleet.shop.submit(steps=5)
        fleet.start_worker()

        fleet.wait_for_state(job_id, "succeeded")
        assert not is_running(standby)

    def test_death_of_the_one_that_waits_leaves_the_one_that_trains(self, fleet):
        fleet.start_worker()
        fleet.standby()
        job_id = fleet.shop.submit(steps=5, evaluate_seconds=3)
        waiting = wait_until(lambda: fleet.trainers() and fleet.standbys(), 10)[0]
        trainer = fleet.trainer()
        os.kill(psutil.Process(waiting).ppid(), signal.SIGKILL)
        wait_until(lambda: not is_running(waiting))
        time.sleep(0.5)  # for the worker to see it

        assert fleet.trainers() == [trainer]
        fleet.wait_for_state(job_id, "succeeded")
        assert len(fleet.shop.attempts(job_id)) == 1

    def test_death_of_the_one_that_trains_leaves_the_one_that_waits(self, fleet):
        fleet.start_worker()
        fleet.standby()
        job_id = fleet.shop.submit(steps=5, evaluate_seconds=3)
        waiting = wait_until(lambda: fleet.trainers() and fleet.standbys(), 10)[0]
        os.kill(psutil.Process(fleet.trainer()).ppid(), signal.SIGKILL)
        fleet.wait_for_state(job_id, "succeeded")

        first, second = fleet.shop.attempts(job_id)
        assert (first.outcome, second.outcome) == ("killed", "succeeded")
        assert not is_running(waiting) or fleet.standbys() == [waiting]


class TestEnds:
    def test_stopped_worker_ends_its_waiting_child_at_once(self, fleet):
        worker = fleet.start_worker()
        standby = fleet.standby()
        worker.terminate()

        assert worker.wait(10) == 0
        assert not is_running(standby)

    def test_stopped_while_it_imports_it_ends_at_once(self, fleet):
        worker = fleet.start_worker(TOY_STANDBY_SECONDS="60")
        standby = fleet.standby()
        worker.terminate()

        assert worker.wait(10) == 0
        assert not is_running(standby)

    def test_slot_of_an_idle_worker_is_kept_and_then_free_again(self, shop, lock):
        standby = Standby(shop.settings, Slot("cpu", ("train",)), TOY_STANDBYS)
        standby.prepare(lock)
        wait_until(lambda: len(lock.list_strays()) == 2)
        standby.end()

        assert lock.list_strays() == []

    def test_dead_one_is_not_replaced_before_an_attempt_has_ended(self, lock, standby):
        os.kill(waiting_child().pid, signal.SIGKILL)
        wait_until(lambda: not standby.prepare(lock))
        assert not standby.prepare(lock)
        standby.forgive()

        assert standby.prepare(lock)


class TestChoice:
    def test_setting_switches_it_off(self, make_fleet):
        fleet = make_fleet(standby_trainer=False)
        fleet.start_worker()
        job_id = fleet.shop.submit(steps=5)
        fleet.wait_for_state(job_id, "succeeded")

        assert fleet.standbys() == []

    def test_nothing_waits_on_a_slot_that_does_not_train(self, shop, lock):
        standby = Standby(shop.settings, Slot("ingest", ("ingest",)), TOY_STANDBYS)

        assert not standby.prepare(lock)

    def test_job_of_another_kind_leaves_it_alone(self, lock, standby):
        environment = build_environment(Slot("cpu", ("train",)))

        assert standby.take("ingest", environment) is None
        assert standby.prepare(lock)
        assert waiting_child().is_running()

    def test_job_that_needs_another_environment_gets_a_child_of_its_own(self, standby):
        environment = build_environment(Slot("cpu", ("train",)))

        assert standby.take("train", environment | {"KERAS_BACKEND": "jax"}) is None
        assert waiting_children() == []

    @pytest.mark.usefixtures("standby")
    def test_kernel_takes_the_waiting_child_first(self, shop):
        wait_until(lambda: imported(shop))
        score = Path(f"/proc/{waiting_child().pid}/oom_score_adj")

        assert score.read_text() == "1000\n"
