"""What a worker does with its slot: claim, supervise, again, until nothing waits.

Whoever hears of work calls `run_until_idle`: the Celery task, when a message rings, or
the worker's own look at the table, when none does. Only one of them is at work at a
time, and only while it holds the slot's lock. The lock is kept while a child stands by
for the next job, since that child holds it too.
"""

import random
import socket
import threading
import time
import uuid
from collections.abc import Callable

import structlog

from shared import attempt_store, worker_store
from shared.attempt_store import Claim
from shared.errors import RetryableError
from worker import slots
from worker.endings import GPU_LOST, SLOT_REST_SECONDS
from worker.presence import Presence
from worker.programs import SELF_TESTS, Programs
from worker.self_test import SelfTest
from worker.slots import SlotBusyError, SlotLock
from worker.supervisor import supervise
from worker.workplace import Workplace

log = structlog.get_logger()

GPU_REST_SECONDS = 60.0
CLAIM_PATIENCE_SECONDS = 5.0  # the next look comes soon anyway


class SlotLoop:
    """Claims and supervises jobs on one slot, one after the other.

    Args:
        workplace: The slot and what it needs.
        presence: The worker's row; nothing is claimed before it exists.
        queues: Values of `jobs.queue` that this worker serves.
        self_tests: What a quarantined slot runs to see whether it is well.
    """

    def __init__(
        self,
        workplace: Workplace,
        presence: Presence,
        queues: list[str],
        self_tests: Programs = SELF_TESTS,
    ) -> None:
        self._place = workplace
        self._presence = presence
        self._self_test = SelfTest(workplace, presence, self_tests)
        self._queues = queues
        self._at_work = threading.Lock()
        self._lock: SlotLock | None = None
        self._asked = False
        self._rests_until = 0.0

    def run_until_idle(self) -> int:
        """Does what can be claimed, and returns how many attempts were made.

        Returns at once when another thread is at it, when the worker is being shut
        down, or when the slot is not to be had. The first look of a process also ends
        what a killed predecessor left running on the slot.
        """
        # Whoever is turned away has left word, and whoever is at it looks for that
        # once the way is free: no kick is lost in the moment after a last look.
        self._asked = True
        attempts = 0
        while self._asked and self._at_work.acquire(blocking=False):
            try:
                self._asked = False
                attempts += self._run()
            finally:
                self._at_work.release()
        return attempts

    def close(self) -> None:
        """Returns once no job runs, no child stands by, and the slot is free.

        Nothing is claimed any more by then: the worker is being shut down.
        """
        with self._at_work:
            self._give_back()

    def _run(self) -> int:
        if self._must_not_claim() or (lock := self._hold()) is None:
            return 0
        attempts = 0
        try:
            while not self._must_not_claim() and (claim := self._claim_next(lock)):
                self._do(claim, lock)
                attempts += 1
        finally:
            self._stand_by(lock)
        return attempts

    def _stand_by(self, lock: SlotLock) -> None:
        """Has a child wait for the next job, and keeps the slot as long as it does."""
        standby = self._place.standby
        if standby is None or self._place.should_stop() or not standby.prepare(lock):
            self._give_back()

    def _give_back(self) -> None:
        if self._place.standby:
            self._place.standby.end()
        if self._lock:
            self._lock.release()
            self._lock = None

    def _hold(self) -> SlotLock | None:
        self._lock = self._lock or self._acquire()
        return self._lock

    def _must_not_claim(self) -> bool:
        return self._place.should_stop() or time.monotonic() < self._rests_until

    def _acquire(self) -> SlotLock | None:
        try:
            return slots.acquire(
                self._place.settings.runtime,
                self._place.slot,
                grace_seconds=self._place.settings.stop_grace_seconds,
                should_stop=self._place.should_stop,
            )
        except SlotBusyError as error:
            log.warning("slot_busy", why=str(error))
            return None

    def _claim_next(self, lock: SlotLock) -> Claim | None:
        if not self._end_left_behind(lock):
            return None
        claim = self._claim(lock)
        if claim is None and lock.attempt is None and self._self_test.run_if_due(lock):
            claim = self._claim(lock)  # it was found well and may have one now
        return claim

    def _end_left_behind(self, lock: SlotLock) -> bool:
        """Ends the attempt that was asked for last on this slot, if nobody else has.

        Its worker died over it, or could not write down how it ended, or never heard
        that it had won. Its job need not wait for the lease to run out: we hold the
        slot, so nothing of the attempt is alive.

        Returns:
            Whether the record is clear of it.
        """
        attempt_uuid = lock.attempt
        if attempt_uuid is None:
            return True
        lease_ms = int(self._place.settings.lease_seconds * 1000)
        try:
            state = self._place.database.tx(
                lambda session: attempt_store.end_left_behind(
                    session, attempt_uuid, lease_ms=lease_ms
                ),
                patience_seconds=CLAIM_PATIENCE_SECONDS,
            )
        except RetryableError as error:
            log.warning("attempt_left_behind", error=str(error)[:300])
            return False
        if state is not None:
            log.warning("attempt_left_behind", attempt=attempt_uuid, state=state)
        lock.attempt = None
        return True

    def _claim(self, lock: SlotLock) -> Claim | None:
        worker_id = self._presence.worker_id
        if worker_id is None:
            return None
        attempt_uuid = uuid.uuid4().hex  # made before the first try: a claim whose
        # answer got lost is found again, not made twice
        try:
            lock.note_attempt(attempt_uuid)
        except OSError:
            log.exception("slot_note_failed")
            self._rest(SLOT_REST_SECONDS)
            return None
        try:
            claim = self._place.database.tx(
                lambda session: attempt_store.claim(
                    session,
                    attempt_uuid=attempt_uuid,
                    worker_id=worker_id,
                    host=socket.gethostname(),
                    slot=self._place.slot.name,
                    kinds=list(self._place.slot.kinds),
                    queues=self._queues,
                    gpu_mem_mb=self._place.slot.gpu_mem_mb,
                    lease_ms=int(self._place.settings.lease_seconds * 1000),
                    max_running_per_user=self._place.settings.max_running_per_user,
                ),
                patience_seconds=CLAIM_PATIENCE_SECONDS,
            )
        except RetryableError as error:
            log.warning("claim_failed", error=str(error)[:300])
            return None
        if claim is None:
            lock.attempt = None
        return claim

    def _do(self, claim: Claim, lock: SlotLock) -> None:
        self._presence.show_job(claim.job_id)
        try:
            ending = supervise(self._place, claim, lock)
        finally:
            self._presence.show_job(None)
            if self._place.standby:
                self._place.standby.forgive()
        if ending.is_recorded:
            lock.attempt = None
        if ending.slot_rest_seconds:
            self._rest(ending.slot_rest_seconds)
        if ending.outcome == GPU_LOST:
            self._presence.leave_service(worker_store.QUARANTINED, ending.reason)
            # Till that is on record: the next job would fail for the same reason.
            self._rests_until = time.monotonic() + GPU_REST_SECONDS

    def _rest(self, seconds: float) -> None:
        log.error("slot_rests", seconds=seconds)
        self._rests_until = time.monotonic() + seconds


class IdlePoll:
    """A worker's own look at the table, so that jobs start without any message.

    Args:
        seconds: Mean time between looks; each wait differs by up to a fifth, so that
            many workers do not look at the same moment.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ended = threading.Event()
        self._due = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, look: Callable[[], int]) -> None:
        """Looks at once, and then again and again.

        Args:
            look: Does what there is to do: `SlotLoop.run_until_idle`.
        """
        self._thread = threading.Thread(
            target=self._run, args=(look,), name="idle-poll", daemon=True
        )
        self._thread.start()

    def wake(self) -> None:
        """Makes the next look come now."""
        self._due.set()

    def stop(self) -> None:
        """Returns once the last look, and the job it may have found, has ended."""
        self._ended.set()
        self._due.set()
        if self._thread:
            self._thread.join()

    def _run(self, look: Callable[[], int]) -> None:
        while not self._ended.is_set():
            self._due.clear()
            try:
                look()
            except BaseException:  # as in the Celery task: whatever it was, the worker
                # must look again, or it would stand idle unnoticed.
                log.exception("look_failed")
            self._due.wait(self._seconds * random.uniform(0.8, 1.2))  # noqa: S311
