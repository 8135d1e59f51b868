"""A quarantined slot tests itself: what brings it back, and what does not."""

import os
import subprocess
import sys
import time

import pytest

from shared import worker_store
from shared.database import Database
from shared.errors import RetryableError
from tests.worker.processes import ROOT, wait_until
from tests.worker.workshop import Workshop
from worker import slots
from worker.presence import Presence
from worker.self_test import SelfTest
from worker.slot_loop import SlotLoop
from worker.slots import GPUDevice, Slot

CPU = Slot("cpu", ("train",))
WELL = {"train": (sys.executable, "-c", "pass")}
UNWELL_PROGRAM = """
from worker import events
events.take_over_stdout()
events.emit("failed", code="unwell", message="no GPU", permanent=False)
raise SystemExit(70)
"""
UNWELL = {"train": (sys.executable, "-c", UNWELL_PROGRAM)}
CRASHING = {"train": (sys.executable, "-c", "import os; os.kill(os.getpid(), 11)")}


@pytest.fixture
def shop(sqlite_url, tmp_path):
    database = Database(sqlite_url)
    yield Workshop(database, tmp_path / "data", self_test_seconds=0.2)
    database.dispose()


@pytest.fixture
def presence(shop):
    presence = Presence(
        shop.database, CPU, ["default"], heartbeat_seconds=0.1, on_registered=int
    )
    presence.start()
    wait_until(lambda: presence.worker_id)
    yield presence
    presence.stop()


@pytest.fixture
def quarantined(shop, presence):
    set_status(shop, worker_store.QUARANTINED, "It failed.")
    wait_until(lambda: presence.status == worker_store.QUARANTINED)
    return presence


@pytest.fixture
def lock(shop):
    lock = slots.acquire(shop.settings.runtime, CPU, grace_seconds=1)
    yield lock
    lock.release()


def set_status(shop, status, reason=None):
    with shop.database.transaction() as session:
        worker_store.set_status(session, 1, status, reason=reason)


def row(shop):
    with shop.database.reading() as session:
        return worker_store.get_worker(session, 1)


def test_a_slot_that_passes_takes_jobs_again(shop, quarantined):
    job_id = shop.submit(steps=1, step_seconds=0)
    loop = SlotLoop(shop.workplace(slot=CPU), quarantined, ["default"], WELL)

    assert loop.run_until_idle() == 0, "not at once"
    wait_until(lambda: loop.run_until_idle() == 1, 20, "the job to be done")

    assert shop.job(job_id).state == "succeeded"
    assert (row(shop).status, row(shop).reason) == (worker_store.ACTIVE, None)


def test_a_slot_is_not_tested_over_a_claim_whose_answer_got_lost(
    shop, quarantined, monkeypatch
):
    class LosingAnswers:
        """Loses the answer to whatever follows the second claim's note."""

        def tx(self, *arguments, **options):
            answer = shop.database.tx(*arguments, **options)
            if len(asked_for) > 1:
                raise RetryableError("the answer got lost")
            return answer

    asked_for = []
    note_attempt = slots.SlotLock.note_attempt
    monkeypatch.setattr(
        slots.SlotLock,
        "note_attempt",
        lambda lock, uuid: (asked_for.append(uuid), note_attempt(lock, uuid)),
    )
    place = shop.workplace(slot=CPU, database=LosingAnswers())
    loop = SlotLoop(place, quarantined, ["default"], WELL)
    loop.run_until_idle()
    time.sleep(0.3)  # a test is due

    loop.run_until_idle()

    assert len(asked_for) == 2, "asked again before it knew of the last one"
    assert row(shop).status == worker_store.QUARANTINED


@pytest.mark.parametrize(
    ("programs", "reason"),
    [
        (UNWELL, "Its self-test failed: no GPU"),
        (CRASHING, "Its self-test failed: It was ended by signal 11."),
    ],
)
def test_a_slot_that_fails_stays_out_and_the_page_says_why(
    shop, quarantined, lock, programs, reason
):
    test = SelfTest(shop.workplace(slot=CPU), quarantined, programs)

    def told():
        assert not test.run_if_due(lock)
        return row(shop).reason == reason

    wait_until(told, 20, "the reason")
    assert row(shop).status == worker_store.QUARANTINED


def test_each_test_waits_twice_as_long_as_the_one_before(shop, quarantined, lock):
    test = SelfTest(shop.workplace(slot=CPU), quarantined, UNWELL)
    looked_at = []

    def has_waited_longer():
        looked_at.append(time.monotonic())
        return test.run_if_due(lock) or test._wait_seconds > 0.2

    wait_until(has_waited_longer, 20)

    assert test._wait_seconds == 0.4
    assert test._due_at >= looked_at[-1] + 0.4


def test_a_slot_in_service_is_not_tested(shop, presence, lock):
    test = SelfTest(shop.workplace(slot=CPU), presence, WELL)
    time.sleep(0.3)

    assert not test.run_if_due(lock)
    assert not (shop.settings.runtime / "self-test-cpu").exists()


def test_one_that_an_administrator_wants_out_is_not_lifted_by_a_late_verdict(
    shop, quarantined
):
    with shop.database.transaction() as session:
        worker_store.set_status(session, 1, worker_store.DRAINING)
        assert not worker_store.lift_quarantine(session, 1, actor="test")

    assert row(shop).status == worker_store.DRAINING


@pytest.mark.parametrize(("devices", "code"), [("-1", 0), ("GPU-gone", 70)])
def test_the_real_test_finds_a_gpu_that_is_not_there(devices, code):
    done = subprocess.run(
        [sys.executable, "-m", "worker.training.self_test"],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": devices},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.returncode == code, done.stderr[-2000:]
    assert ("the framework sees 0" in done.stdout) == bool(code)


def test_a_job_that_fails_because_its_gpu_is_gone_goes_elsewhere_uncharged(
    shop, presence
):
    slot = Slot("gpu-GPU-a", ("train",), (GPUDevice(0, "GPU-a", 1),))
    job_id = shop.submit(faults=[{"step": 2, "do": "crash"}])
    place = shop.workplace(slot=slot, list_gpus=list)
    loop = SlotLoop(place, presence, ["default"])

    assert loop.run_until_idle() == 1

    (attempt,) = shop.attempts(job_id)
    assert (attempt.outcome, attempt.charged) == ("gpu_lost", False)
    assert shop.job(job_id).state == "queued"
    assert "GPU is gone (GPU-a)" in shop.notes(job_id)[-1]
    wait_until(lambda: row(shop).status == worker_store.QUARANTINED)
    assert "GPU-a" in row(shop).reason


@pytest.mark.parametrize("answer", [[GPUDevice(0, "GPU-a", 1)], None])
def test_a_gpu_that_is_not_known_to_be_gone_excuses_nothing(shop, presence, answer):
    slot = Slot("gpu-GPU-a", ("train",), (GPUDevice(0, "GPU-a", 1),))
    job_id = shop.submit(faults=[{"step": 2, "do": "crash", "fences": [1]}])
    place = shop.workplace(slot=slot, list_gpus=lambda: answer)

    SlotLoop(place, presence, ["default"]).run_until_idle()

    assert [a.outcome for a in shop.attempts(job_id)] == ["crash", "succeeded"]
