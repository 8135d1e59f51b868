"""The loop over one slot and the worker's row, in one process."""

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import worker_store
from shared.database import Database
from shared.errors import RetryableError
from tests.worker.processes import wait_until
from tests.worker.workshop import Workshop
from worker import slot_loop, slots
from worker.presence import Presence
from worker.slot_loop import IdlePoll, SlotLoop
from worker.slots import Slot

CPU = Slot("cpu", ("train", "ingest"))


@pytest.fixture
def shop(sqlite_url, tmp_path):
    database = Database(sqlite_url)
    yield Workshop(database, tmp_path / "data")
    database.dispose()


@pytest.fixture
def make_presence(shop):
    started = []

    def make(on_registered=int, database=None, weights=lambda: None, on_beat=int):
        presence = Presence(
            database or shop.database,
            CPU,
            ["default"],
            heartbeat_seconds=0.1,
            on_registered=on_registered,
            report_weights=weights,
            on_beat=on_beat,
        )
        presence.start()
        started.append(presence)
        return presence

    yield make
    for presence in started:
        presence.stop()


@pytest.fixture
def presence(make_presence):
    presence = make_presence()
    wait_until(lambda: presence.worker_id)
    return presence


def rows(shop):
    with shop.database.reading() as session:
        return worker_store.list_workers(session)


def in_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


class TestSlotLoop:
    def test_does_every_job_that_waits_then_returns(self, shop, presence):
        jobs = [shop.submit(steps=2, step_seconds=0) for _ in range(2)]

        assert SlotLoop(shop.workplace(), presence, ["default"]).run_until_idle() == 2
        assert [shop.job(job_id).state for job_id in jobs] == ["succeeded"] * 2

    def test_serves_only_its_queues(self, shop, presence):
        shop.submit(steps=2)

        assert SlotLoop(shop.workplace(), presence, ["other"]).run_until_idle() == 0

    def test_claims_nothing_before_it_is_registered(self, shop, presence):
        shop.submit(steps=2)
        presence.worker_id = None

        assert SlotLoop(shop.workplace(), presence, ["default"]).run_until_idle() == 0

    def test_claims_nothing_while_it_drains(self, shop, presence):
        shop.submit(steps=2)
        shop.stopping = True

        assert SlotLoop(shop.workplace(), presence, ["default"]).run_until_idle() == 0

    def test_claims_nothing_while_another_worker_holds_the_slot(self, shop, presence):
        shop.submit(steps=2)
        lock = slots.acquire(shop.settings.runtime, CPU, grace_seconds=1)

        assert SlotLoop(shop.workplace(), presence, ["default"]).run_until_idle() == 0
        lock.release()

    def test_rests_after_a_full_disk(self, shop, presence):
        job_id = shop.submit(faults=[{"step": 0, "do": "exit", "code_number": 74}])
        loop = SlotLoop(shop.workplace(), presence, ["default"])

        assert loop.run_until_idle() == 1
        assert loop.run_until_idle() == 0
        assert (shop.job(job_id).state, shop.job(job_id).noprog) == ("queued", 0)

    def test_second_caller_returns_at_once(self, shop, presence):
        shop.submit(steps=50)
        loop = SlotLoop(shop.workplace(), presence, ["default"])
        first = threading.Thread(target=loop.run_until_idle)
        first.start()
        wait_until(loop._at_work.locked)

        assert loop.run_until_idle() == 0
        first.join()

    def test_kick_that_comes_just_after_the_last_look_is_not_lost(self, shop, presence):
        class Late:
            """Lets a job and its kick come in when nothing was found."""

            def tx(self, function, **options):
                answer = shop.database.tx(function, **options)
                if answer is None and not jobs:
                    jobs.append(shop.submit(steps=1, step_seconds=0))
                    turned_away.append(in_thread(loop.run_until_idle))
                return answer

        jobs, turned_away = [], []
        loop = SlotLoop(shop.workplace(database=Late()), presence, ["default"])

        assert loop.run_until_idle() == 1
        assert turned_away == [0]
        assert shop.job(jobs[0]).state == "succeeded"

    def test_database_that_is_away_is_no_error(self, shop, presence):
        class Away:
            def tx(self, *_args, **_options):
                raise RetryableError("no route")

        place = shop.workplace(database=Away())

        assert SlotLoop(place, presence, ["default"]).run_until_idle() == 0


class TestLeftBehind:
    def test_job_of_a_dead_worker_is_ended_before_another_is_claimed(
        self, shop, presence
    ):
        job_id = shop.submit(steps=2)
        left = shop.claim(lease_ms=10**7)
        note(shop, left.attempt_uuid)
        other = shop.submit(steps=2)

        assert SlotLoop(shop.workplace(), presence, ["default"]).run_until_idle() == 1

        (attempt,) = shop.attempts(job_id)
        assert (attempt.outcome, attempt.charged) == ("lost", False)
        assert shop.job(other).state == "succeeded"
        # It got nowhere, so others may have it first.
        assert shop.job(job_id).state == "queued"
        lease_ms = shop.settings.lease_seconds * 1000
        assert shop.job(job_id).not_before >= attempt.ended_at + lease_ms

    def test_nothing_is_claimed_until_the_record_is_clear(self, shop, presence):
        class Away:
            def tx(self, *_args, **_options):
                raise RetryableError("no route")

        job_id = shop.submit(steps=2)
        note(shop, shop.claim(lease_ms=10**7).attempt_uuid)
        place = shop.workplace(database=Away())
        assert SlotLoop(place, presence, ["default"]).run_until_idle() == 0

        SlotLoop(shop.workplace(), presence, ["default"]).run_until_idle()
        assert shop.attempts(job_id)[0].outcome == "lost"

    def test_ending_that_could_not_be_written_is_written_by_the_next_look(
        self, shop, presence
    ):
        away = threading.Event()

        class GoingAway:
            def tx(self, *arguments, **options):
                if away.is_set():
                    raise RetryableError("no route")
                return shop.database.tx(*arguments, **options)

        job_id = shop.submit(steps=200, step_seconds=0.05)
        loop = SlotLoop(shop.workplace(database=GoingAway()), presence, ["default"])
        with ThreadPoolExecutor(1) as pool:
            look = pool.submit(loop.run_until_idle)
            wait_until(lambda: shop.job(job_id).last_step > 0, 20)
            away.set()
            shop.stopping = True
            assert look.result(60) == 1
        assert shop.attempts(job_id)[0].ended_at is None

        away.clear()
        shop.stopping = False
        loop.run_until_idle()

        first, *_ = shop.attempts(job_id)
        assert (first.outcome, first.charged) == ("lost", False)

    def test_slot_whose_note_cannot_be_written_claims_nothing(
        self, shop, presence, monkeypatch
    ):
        write, writes = os.pwrite, []

        def fill_up(*arguments):
            writes.append(arguments)
            if len(writes) > 1:  # the first is of whoever takes the lock
                raise OSError(errno.EROFS, "read-only now")
            return write(*arguments)

        job_id = shop.submit(steps=2)
        monkeypatch.setattr(slots.os, "pwrite", fill_up)
        loop = SlotLoop(shop.workplace(), presence, ["default"])

        assert [loop.run_until_idle() for _ in range(2)] == [0, 0]
        assert len(writes) == 2, "it rests"
        assert shop.attempts(job_id) == []


def note(shop, attempt_uuid):
    """Leaves the slot as a worker that died over this attempt."""
    lock = slots.acquire(shop.settings.runtime, CPU, grace_seconds=1)
    lock.note_attempt(attempt_uuid)
    lock.release()


class TestIdlePoll:
    def test_looks_at_once_and_again(self):
        looks = []
        poll = IdlePoll(0.02)
        poll.start(lambda: looks.append(1) or 0)

        wait_until(lambda: len(looks) > 3)
        poll.stop()

    def test_wakes_when_told(self):
        looks = []
        poll = IdlePoll(600)
        poll.start(lambda: looks.append(1) or 0)
        wait_until(lambda: looks)
        poll.wake()

        wait_until(lambda: len(looks) == 2)
        poll.stop()

    def test_goes_on_after_any_error(self):
        looks = []

        def look():
            looks.append(1)
            raise MemoryError

        poll = IdlePoll(0.02)
        poll.start(look)
        wait_until(lambda: len(looks) > 2)
        poll.stop()

    def test_stop_waits_for_the_look_under_way(self):
        ended = []

        def look():
            time.sleep(0.3)
            ended.append(1)
            return 0

        poll = IdlePoll(600)
        poll.start(look)
        time.sleep(0.1)
        poll.stop()

        assert ended == [1]

    def test_never_started_stops(self):
        IdlePoll(1).stop()


class TestPresence:
    def test_registers_and_says_so(self, shop, make_presence):
        told = threading.Event()
        make_presence(told.set)

        assert told.wait(10)
        (row,) = rows(shop)
        assert (row.slot, row.status, row.queues) == ("cpu", "active", ["default"])
        assert row.facts["cores"] >= 1

    def test_beats_and_shows_its_job(self, shop, presence):
        before = rows(shop)[0].hb
        presence.show_job(7)

        wait_until(lambda: rows(shop)[0].hb > before + 1)
        assert rows(shop)[0].job_id == 7

    def test_only_a_beat_that_the_records_took_counts(self, shop, make_presence):
        class Away:
            away = True

            def tx(self, change, **options):
                if self.away:
                    raise RetryableError("no route")
                return shop.database.tx(change, **options)

        database, beats = Away(), []
        make_presence(database=database, on_beat=lambda: beats.append("beat"))
        time.sleep(0.3)
        while_away = list(beats)
        database.away = False

        wait_until(lambda: len(beats) >= 2)
        assert while_away == []

    def test_tells_its_base_models_and_what_becomes_of_them(self, shop, make_presence):
        found = [{"ready": ["MobileNet"], "folders": ["/w"], "download": False}]
        make_presence(weights=lambda: found[-1])
        wait_until(lambda: rows(shop) and rows(shop)[0].base_models == found[0])
        found.append(found[0] | {"ready": []})

        wait_until(lambda: rows(shop)[0].base_models == found[1])

    def test_tells_its_base_models_again_when_a_beat_failed(self, shop, make_presence):
        class Deaf:
            refusals = 0

            def tx(self, change, **options):
                if self.refusals:
                    self.refusals -= 1
                    raise RetryableError("no route")
                return shop.database.tx(change, **options)

        found = [None]
        database = Deaf()
        presence = make_presence(database=database, weights=lambda: found[-1])
        wait_until(lambda: presence.worker_id)
        database.refusals = 3
        found.append({"ready": [], "folders": ["/w"], "download": True})

        wait_until(lambda: rows(shop)[0].base_models == found[1])

    def test_says_goodbye(self, shop, presence):
        presence.stop()

        assert rows(shop)[0].status == "gone"

    def test_registers_again_when_its_row_was_removed(self, shop, presence):
        with shop.database.transaction() as session:
            worker_store.forget(session, presence.worker_id, actor="user:1")

        wait_until(lambda: [row.status for row in rows(shop)] == ["active"])

    def test_goodbye_of_a_predecessor_does_not_last(self, shop, presence):
        with shop.database.transaction() as session:
            worker_store.set_status(session, presence.worker_id, "gone")

        wait_until(lambda: rows(shop)[0].status == "active")

    def test_goodbye_spares_the_row_of_a_successor(self, shop, presence):
        with shop.database.transaction() as session:
            worker_store.get_worker(session, presence.worker_id).pid = 1
        presence.stop()

        assert rows(shop)[0].status == "active"

    def test_database_that_is_away_is_waited_for(self, shop, make_presence):
        class Late:
            def __init__(self):
                self.refusals = 3

            def tx(self, change, **options):
                if self.refusals:
                    self.refusals -= 1
                    raise RetryableError("no route")
                return shop.database.tx(change, **options)

        presence = make_presence(database=Late())

        wait_until(lambda: presence.worker_id)


def test_claim_patience_is_shorter_than_the_wait_between_looks(shop):
    field = type(shop.settings).model_fields["idle_poll_seconds"]

    assert field.default > slot_loop.CLAIM_PATIENCE_SECONDS
