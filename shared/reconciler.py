"""Repairs what was lost: rings again, reaps dead attempts, ends what runs too long.

Any number of reconcilers may run, in `trainyard reconciler` and in every web process:
each action is one conditional write, so a second one finds nothing to do. One sweep:
  1. Reap attempts whose lease ran out (the double condition below).
  2. End jobs that have used up their time.
  3. Take slots out of service that fail every job.
  4. Ask jobs to give way to more urgent ones.
  5. Ring for jobs that wait while workers idle.
  6. Write down when new jobs are expected to start, so that it can be compared.
  7. Tell of jobs that no worker takes.
  8. Collect garbage on shared storage, every ten minutes.
  9. Check the invariants, every minute; a violation is an error in the log, and is
     never repaired in silence.
"""

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from shared import (
    attempt_store,
    preemption_store,
    promise_store,
    queue,
    reconcile_store,
    worker_store,
)
from shared.artifacts import Storage
from shared.database import Database
from shared.errors import LostLease, RetryableError
from shared.garbage import collect_garbage
from shared.notifications import stuck_job_store
from shared.queue_outlook import QueueOutlook
from shared.reconcile_store import RunningJob
from shared.settings import Settings

log = structlog.get_logger()

ACTOR = "reconciler"
GOOD_READS = 3  # looks at an unchanged heartbeat before it counts as dead
STUCK_SECONDS = 30.0
STUCK_PARTS = 20  # of one sweep
GARBAGE_SECONDS = 600.0
CHECK_SECONDS = 60.0
MOST_PROMISES = 5_000  # of one sweep: heartbeats wait while they are written
FAILING = "Its last three jobs, all different, ended without any progress."
# A read or a write of the reaper's may take this part of a lease; a lease is two
# heartbeats at least, so whoever could not renew it meanwhile still has a quarter left.
LATE_SHARE = 4
_STOPPED = "Its worker stopped answering."
BREAKER_JOBS = 3  # this many and more than half at once: suspect ourselves first


@dataclass
class _Watched:
    """One running attempt's heartbeat, as this process has seen it stand still."""

    hb: int
    since: float
    reads: int = 1


class Reaper:
    """Tells dead attempts from live ones without trusting any one clock.

    An attempt is dead when the database's clock says that its lease ran out **and**
    this process has seen (fence, heartbeat) stand still for a whole lease of its own
    monotonic clock over at least three good reads. A restarted reaper, a database that
    was away or a clock that jumps just starts the observation anew.

    Args:
        lease_seconds: How long a lease holds.
        clock: Monotonic seconds.
    """

    def __init__(
        self, lease_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._watched: dict[tuple[int, int], _Watched] = {}
        self._held_until: float | None = None

    def forget(self, job: RunningJob | None = None) -> None:
        """Starts every observation anew, or that of one job.

        A read failed, so time may have passed; or a write did, so others may wait.
        """
        if job is None:
            self._watched.clear()
        else:
            self._watched.pop((job.job_id, job.fence), None)

    def find_dead(self, running: list[RunningJob]) -> list[RunningJob]:
        """Takes one good read of all running jobs and returns the dead ones."""
        now = self._clock()
        keys = {(job.job_id, job.fence) for job in running}
        self._watched = {k: w for k, w in self._watched.items() if k in keys}
        dead = [job for job in running if self._stands_still(job, now) and job.expired]
        return self._break_circuit(dead, running, now)

    def _stands_still(self, job: RunningJob, now: float) -> bool:
        key = (job.job_id, job.fence)
        seen = self._watched.get(key)
        if seen is None or seen.hb != job.hb:
            self._watched[key] = _Watched(job.hb, now)
            return False
        seen.reads += 1
        return seen.reads >= GOOD_READS and now - seen.since >= self._lease_seconds

    def _break_circuit(
        self, dead: list[RunningJob], running: list[RunningJob], now: float
    ) -> list[RunningJob]:
        """Waits one more lease when most of the fleet seems dead at once."""
        many = len(dead) >= BREAKER_JOBS and 2 * len(dead) > len(running)
        if not many:
            self._held_until = None
            return dead
        if self._held_until is None:
            self._held_until = now + self._lease_seconds
            log.error("reaping_held", dead=len(dead), running=len(running))
        return dead if now >= self._held_until else []


class Reconciler:
    """Sweeps one installation.

    Args:
        database: Its records.
        settings: Its settings.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._reaper = Reaper(settings.lease_seconds, clock)
        self._outlook = QueueOutlook(
            database, clock, max_running_per_user=settings.max_running_per_user
        )
        self._stuck_at = clock()
        self._garbage_at = clock()
        self._check_at = clock()

    def run_forever(
        self, stop: threading.Event, on_sweep: Callable[[], None] = lambda: None
    ) -> None:
        """Sweeps every `reconcile_seconds` until `stop` is set.

        Args:
            stop: Ends it.
            on_sweep: Called after each sweep of which every step could be taken.
        """
        log.info("reconciler_started", seconds=self._settings.reconcile_seconds)
        while not stop.is_set():
            if self.sweep():
                on_sweep()
            stop.wait(self._settings.reconcile_seconds)

    def sweep(self) -> bool:
        """Takes every step once, whichever of them fail; returns whether none did."""
        failed = 0
        for step in (
            self._reap,
            self._end_overdue,
            self._quarantine,
            self._make_way,
            self._ring,
            self._promise,
            self._tell_stuck,
            self._collect,
            self._check,
        ):
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the next sweep tries again
                failed += 1
                name = step.__name__.strip("_")
                log.warning("sweep_step_failed", step=name, error=str(error)[:300])
        return not failed

    def _reap(self) -> None:
        """Ends dead attempts, unless the records let nobody in.

        While somebody holds a lock, no heart can be seen beating. So it reads as one
        who writes, and what had to wait says nothing: whoever waited beside it for
        the same lock may be alive.
        """
        asked_at = self._clock()
        try:
            with self._database.transaction() as session:
                reconcile_store.refuse_to_wait(session)
                running = reconcile_store.list_running(session)
            self._refuse_if_late(asked_at)
        except Exception:
            self._reaper.forget()
            raise
        for job in self._reaper.find_dead(running):
            try:
                self._end_dead(job)
            except Exception as error:  # noqa: BLE001 - others may be dead as well
                self._reaper.forget(job)
                log.warning("reaping_failed", job_id=job.job_id, error=str(error)[:300])

    def _end_dead(self, job: RunningJob) -> None:
        asked_at = self._clock()
        with self._database.transaction() as session:
            reconcile_store.refuse_to_wait(session)
            if not reconcile_store.stands_still(session, job):
                return  # its heart beat since, it ended, or another one was first
            self._refuse_if_late(asked_at)
            state = self._write_end(session, job, "lost", _STOPPED)
        _tell_end(job, "lost", state)

    def _refuse_if_late(self, asked_at: float) -> None:
        waited_seconds = self._clock() - asked_at
        if waited_seconds > self._settings.lease_seconds / LATE_SHARE:
            raise RetryableError(
                f"The database kept the reaper waiting for {waited_seconds:.1f} s; it "
                "watches anew."
            )

    def _end_overdue(self) -> None:
        limit_ms = self._settings.max_job_hours * 3_600_000
        with self._database.reading() as session:
            running = reconcile_store.list_running(session)
        reason = (
            f"It ran longer than the allowed {self._settings.max_job_hours:g} hours."
        )
        for job in running:
            if job.running_ms <= limit_ms:
                continue
            try:
                state = self._database.tx(
                    lambda session, job=job: self._write_end(
                        session, job, "deadline", reason, permanent=True
                    )
                )
            except LostLease:
                continue  # it ended, or another reconciler was first
            _tell_end(job, "deadline", state)

    def _write_end(
        self,
        session: Session,
        job: RunningJob,
        outcome: str,
        reason: str,
        *,
        permanent: bool = False,
    ) -> str:
        return attempt_store.end(
            session,
            job.job_id,
            job.fence,
            outcome=outcome,
            charge=False,
            permanent=permanent,
            reason=reason,
            actor=ACTOR,
        )

    def _quarantine(self) -> None:
        with self._database.reading() as session:
            failing = reconcile_store.find_failing_workers(session)
        for worker_id, name in failing:
            self._database.tx(
                lambda session, worker_id=worker_id: worker_store.set_status(
                    session,
                    worker_id,
                    worker_store.QUARANTINED,
                    reason=FAILING,
                    actor=ACTOR,
                )
            )
            log.error("worker_quarantined", worker=name)

    def _make_way(self) -> None:
        with self._database.reading() as session:
            pairs = preemption_store.find_giving_way(
                session,
                lease_ms=int(self._settings.lease_seconds * 1000),
                max_running_per_user=self._settings.max_running_per_user,
            )
        for occupant, job in pairs:
            if self._database.tx(
                lambda session, occupant=occupant, job=job: preemption_store.ask(
                    session, occupant, job, actor=ACTOR
                )
            ):
                log.info("job_gives_way", job_id=occupant.job_id, to=job.job_id)

    def _ring(self) -> None:
        for name in queue.QUEUES:
            kinds = queue.kinds_of(name)
            with self._database.reading() as session:
                waiting = reconcile_store.count_claimable(
                    session, kinds, self._settings.max_running_per_user
                )
                idle = worker_store.count_idle(session, kinds)
            wanted = min(waiting, idle)
            if not wanted:
                continue
            for _ in range(max(0, wanted - queue.queue_length(name))):
                queue.kick(name)

    def _promise(self) -> None:
        with self._database.reading() as session:
            waiting = promise_store.list_unpromised(session)
        if not waiting:
            return
        expected = self._outlook.look()
        told = {n: expected[n] for n in waiting if n in expected}
        some = dict(itertools.islice(told.items(), MOST_PROMISES))
        if some:
            self._database.tx(lambda session: promise_store.keep(session, some))

    def _tell_stuck(self) -> None:
        if self._clock() < self._stuck_at:
            return
        self._stuck_at = self._clock() + STUCK_SECONDS
        seconds = self._settings.progress_timeout_seconds
        for _ in range(STUCK_PARTS):
            with self._database.reading() as session:
                stuck = stuck_job_store.list_stuck(session, seconds)
            if not stuck:
                return
            self._database.tx(
                lambda session, stuck=stuck: stuck_job_store.announce_stuck(
                    session, stuck, seconds
                )
            )

    def _collect(self) -> None:
        if self._clock() < self._garbage_at:
            return
        self._garbage_at = self._clock() + GARBAGE_SECONDS
        collect_garbage(
            self._database,
            Storage(self._settings.storage),
            max_feature_cache_bytes=self._settings.max_feature_cache_bytes,
        )

    def _check(self) -> None:
        if self._clock() < self._check_at:
            return
        self._check_at = self._clock() + CHECK_SECONDS
        with self._database.reading() as session:
            violations = reconcile_store.find_violations(session)
        for violation in violations:
            log.error("invariant_violated", violation=violation)


def _tell_end(job: RunningJob, outcome: str, state: str) -> None:
    log.warning(
        "attempt_reaped",
        job_id=job.job_id,
        fence=job.fence,
        outcome=outcome,
        state=state,
    )
