"""Repairs what was lost: rings again, reaps dead attempts, ends what runs too long.

Any number of reconcilers may run, in `trainyard reconciler` and in every web process:
each action is one conditional write, so a second one finds nothing to do. One sweep:
  1. Reap attempts whose lease ran out (the double condition below).
  2. End jobs that have used up their time.
  3. Take slots out of service that fail every job.
  4. Ring for jobs that wait while workers idle.
  5. Collect garbage on shared storage, every ten minutes.
  6. Check the invariants, every minute; a violation is an error in the log, and is
     never repaired in silence.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from shared import attempt_store, queue, reconcile_store, worker_store
from shared.artifacts import Storage
from shared.database import Database
from shared.errors import LostLease
from shared.garbage import collect_garbage
from shared.reconcile_store import RunningJob
from shared.settings import Settings

log = structlog.get_logger()

ACTOR = "reconciler"
GOOD_READS = 3  # looks at an unchanged heartbeat before it counts as dead
GARBAGE_SECONDS = 600.0
CHECK_SECONDS = 60.0
FAILING = "Its last three jobs, all different, ended without any progress."
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

    def forget(self) -> None:
        """Starts every observation anew: a read failed, so time may have passed."""
        self._watched.clear()

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
        self._garbage_at = clock()
        self._check_at = clock()

    def run_forever(self, stop: threading.Event) -> None:
        """Sweeps every `reconcile_seconds` until `stop` is set."""
        while not stop.is_set():
            self.sweep()
            stop.wait(self._settings.reconcile_seconds)

    def sweep(self) -> None:
        """Takes every step once; a step that fails does not keep the others."""
        for step in (
            self._reap,
            self._end_overdue,
            self._quarantine,
            self._ring,
            self._collect,
            self._check,
        ):
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the next sweep tries again
                name = step.__name__.strip("_")
                log.warning("sweep_step_failed", step=name, error=str(error)[:300])

    def _reap(self) -> None:
        try:
            with self._database.reading() as session:
                running = reconcile_store.list_running(session)
        except Exception:
            self._reaper.forget()
            raise
        for job in self._reaper.find_dead(running):
            self._end(
                job,
                outcome="lost",
                permanent=False,
                reason="Its worker stopped answering.",
            )

    def _end_overdue(self) -> None:
        limit_ms = self._settings.max_job_hours * 3_600_000
        with self._database.reading() as session:
            running = reconcile_store.list_running(session)
        for job in running:
            if job.running_ms > limit_ms:
                self._end(
                    job,
                    outcome="deadline",
                    permanent=True,
                    reason="It ran longer than the allowed "
                    f"{self._settings.max_job_hours:g} hours.",
                )

    def _end(
        self, job: RunningJob, *, outcome: str, permanent: bool, reason: str
    ) -> None:
        try:
            state = self._database.tx(
                lambda session: attempt_store.end(
                    session,
                    job.job_id,
                    job.fence,
                    outcome=outcome,
                    charge=False,
                    permanent=permanent,
                    reason=reason,
                    actor=ACTOR,
                )
            )
        except LostLease:
            return  # it ended, or another reconciler was first
        log.warning(
            "attempt_reaped",
            job_id=job.job_id,
            fence=job.fence,
            outcome=outcome,
            state=state,
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

    def _ring(self) -> None:
        for name in queue.QUEUES:
            kinds = queue.kinds_of(name)
            with self._database.reading() as session:
                waiting = reconcile_store.count_claimable(session, kinds)
                idle = worker_store.count_idle(session, kinds)
            wanted = min(waiting, idle)
            if not wanted:
                continue
            for _ in range(max(0, wanted - queue.queue_length(name))):
                queue.kick(name)

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
