"""What the queue looks like ahead: asked often, so remembered for a moment.

Any process may ask; each reads the records for itself.
"""

import threading
import time
from collections.abc import Callable

from shared import queue_outlook_store
from shared.database import Database, read_clock
from shared.expected_starts import Expected, Taker, Waiting, expect_starts
from shared.job_duration import Durations, Work

FRESH_SECONDS = 2.0  # pages of several viewers ask every few seconds
LEARN_SECONDS = 30.0  # between looks at what has finished


class QueueOutlook:
    """Tells when waiting jobs are expected to start and to end.

    Args:
        database: Of the installation.
        clock: Monotonic seconds.
        max_running_per_user: The installation's setting.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.monotonic,
        *,
        max_running_per_user: int | None = None,
    ) -> None:
        self._database = database
        self._max_running_per_user = max_running_per_user
        self._clock = clock
        self._lock = threading.Lock()
        self._expected: dict[int, Expected] = {}
        self._until = self._learn_at = float("-inf")
        self._durations = Durations([])
        self._work: dict[int, Work | None] = {}  # of a job it never changes

    def look(self) -> dict[int, Expected]:
        """Returns what is expected of each waiting job that can be told of."""
        is_known = self._until > float("-inf")
        # While one thread looks, the others take what was last seen.
        if self._clock() >= self._until and self._lock.acquire(blocking=not is_known):
            try:
                if self._clock() >= self._until:
                    self._expected = self._foresee()
                    self._until = self._clock() + FRESH_SECONDS
            finally:
                self._lock.release()
        return self._expected

    def _foresee(self) -> dict[int, Expected]:
        with self._database.reading() as session:
            now = read_clock(session)
            if self._clock() >= self._learn_at:
                self._durations = Durations(queue_outlook_store.list_finished(session))
                self._learn_at = self._clock() + LEARN_SECONDS
            allowances = queue_outlook_store.list_allowances(
                session, self._max_running_per_user, self._durations
            )
            waiting = queue_outlook_store.list_waiting(session, allowances.keys())
            takers = queue_outlook_store.list_takers(session, self._durations)
            numbers = {job.job_id for job in waiting}
            known = {n: w for n, w in self._work.items() if n in numbers}
            news = queue_outlook_store.read_work(session, numbers - known.keys())
            self._work = known | news
        return expect_starts(waiting, takers, self._tell_seconds, now, allowances)

    def _tell_seconds(self, job: Waiting, taker: Taker) -> float | None:
        whole = self._durations.estimate(self._work.get(job.job_id), taker.worker_id)
        return None if whole is None else max(0.0, whole - job.spent_seconds)
