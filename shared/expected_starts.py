"""When each waiting job will start and end: the workers' next choices, played ahead.

Each worker that gets free takes the first waiting job that it may, as `claim` does.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, inf

Seconds = Callable[["Waiting", "Taker"], float | None]


@dataclass(frozen=True)
class Taker:
    """A worker that takes jobs.

    Args:
        worker_id: Its number.
        kinds: Of jobs that it does.
        queues: That it serves.
        gpu_mem_mb: Memory of its GPU, MiB.
        free_at: When its present job ends, in milliseconds; now or earlier when idle.
    """

    worker_id: int
    kinds: frozenset[str]
    queues: frozenset[str]
    gpu_mem_mb: int
    free_at: int


@dataclass(frozen=True)
class Waiting:
    """One queued job.

    Args:
        job_id: Its number.
        kind: What it does.
        queue: Whose workers may take it.
        gpu_mem_mb: Memory that a worker's GPU must have, MiB.
        not_before: When it is due, in milliseconds.
        spent_seconds: What earlier attempts have done of it and it goes on from.
        owner_id: Whose it is, where that user's running jobs are limited.
    """

    job_id: int
    kind: str
    queue: str
    gpu_mem_mb: int = 0
    not_before: int = 0
    spent_seconds: float = 0.0
    owner_id: int | None = None


@dataclass(frozen=True)
class Allowance:
    """How many jobs a user may have running, and those that run.

    Args:
        most: 1 or more.
        ends: When each of the running ones ends, in milliseconds; infinity where
            nobody can tell.
    """

    most: int
    ends: list[float]

    def __post_init__(self) -> None:
        heapq.heapify(self.ends)

    def next_room(self, now: float) -> float:
        """Returns when one more may start: `now`, or the end of another one.

        Forgets what has ended by then, so `now` must never fall.
        """
        while self.ends and self.ends[0] <= now:
            heapq.heappop(self.ends)
        too_many = len(self.ends) - self.most + 1
        return now if too_many <= 0 else heapq.nsmallest(too_many, self.ends)[-1]

    def take(self, ends_at: float) -> None:
        """Counts one more that runs until then."""
        heapq.heappush(self.ends, ends_at)


@dataclass(frozen=True)
class Expected:
    """When a job is expected to start and to end, in milliseconds.

    `ends_at` is None when nobody can tell how long it takes.
    """

    starts_at: int
    ends_at: int | None


@dataclass
class _Line:
    """Jobs that the same workers may take, as heaps: who is due, and who will be.

    Those of an owner who is limited are a line of their own.
    """

    owner_id: int | None
    due: list[int] = field(default_factory=list)  # places in the queue
    later: list[tuple[int, int]] = field(default_factory=list)  # (not_before, place)

    def first_due(self, now: int) -> int | None:
        """Returns the place of the next job at `now`."""
        while self.later and self.later[0][0] <= now:
            heapq.heappush(self.due, heapq.heappop(self.later)[1])
        return self.due[0] if self.due else None


def expect_starts(
    waiting: list[Waiting],
    takers: list[Taker],
    seconds: Seconds,
    now: int,
    allowances: dict[int, Allowance] | None = None,
) -> dict[int, Expected]:
    """Plays the queue ahead until nothing is left that a worker may take.

    Args:
        waiting: In the order of their claim.
        takers: Every worker that takes jobs.
        seconds: How long a job will take on a taker; None when nobody can tell.
        now: Milliseconds since 1970.
        allowances: Of users whose running jobs are limited; they are used up.

    Returns:
        What is expected, by job. Missing are jobs that no worker may take. A worker
        whose job may take any time is taken for busy from then on.
    """
    lines = _line_up(waiting, now)
    room = _Room(allowances or {})
    free = [(max(now, taker.free_at), taker.worker_id, taker) for taker in takers]
    heapq.heapify(free)
    expected: dict[int, Expected] = {}
    while free:
        at, _, taker = heapq.heappop(free)
        mine = [line for key, line in lines.items() if _may_take(taker, *key)]
        places = [
            (place, line)
            for line in mine
            if (place := line.first_due(at)) is not None and room.is_for(line, at)
        ]
        if not places:
            later = room.next_start(mine, at)
            if later is not None:
                heapq.heappush(free, (later, taker.worker_id, taker))
            continue
        place, line = min(places, key=lambda found: found[0])
        heapq.heappop(line.due)
        job = waiting[place]
        duration = seconds(job, taker)
        if duration is None:
            room.take(line, inf)
            expected[job.job_id] = Expected(at, None)
            continue
        ends_at = at + round(1000 * duration)
        room.take(line, ends_at)
        expected[job.job_id] = Expected(at, ends_at)
        heapq.heappush(free, (ends_at, taker.worker_id, taker))
    return expected


class _Room:
    """Whether owners who are limited may have one more running."""

    def __init__(self, allowances: dict[int, Allowance]) -> None:
        self._allowances = allowances

    def is_for(self, line: _Line, now: int) -> bool:
        return self._opens(line, now) <= now

    def take(self, line: _Line, ends_at: float) -> None:
        allowance = self._allowances.get(line.owner_id or 0)
        if allowance is not None:
            allowance.take(ends_at)

    def next_start(self, lines: list[_Line], now: int) -> int | None:
        """Returns when the first job of lines that cannot give one now can start."""
        starts = [
            max(self._opens(line, now), now if line.due else line.later[0][0])
            for line in lines
            if line.due or line.later
        ]
        first = min(starts, default=inf)
        return None if first == inf else ceil(first)

    def _opens(self, line: _Line, now: int) -> float:
        allowance = self._allowances.get(line.owner_id or 0)
        return now if allowance is None else allowance.next_room(now)


def _line_up(
    waiting: list[Waiting], now: int
) -> dict[tuple[str, str, int, int | None], _Line]:
    lines: dict[tuple[str, str, int, int | None], _Line] = {}
    for place, job in enumerate(waiting):
        key = (job.kind, job.queue, job.gpu_mem_mb, job.owner_id)
        line = lines.get(key) or lines.setdefault(key, _Line(job.owner_id))
        if job.not_before <= now:
            line.due.append(place)  # rising, so it is a heap
        else:
            heapq.heappush(line.later, (job.not_before, place))
    return lines


def _may_take(
    taker: Taker, kind: str, queue: str, gpu_mem_mb: int, _owner_id: int | None
) -> bool:
    return (
        kind in taker.kinds and queue in taker.queues and gpu_mem_mb <= taker.gpu_mem_mb
    )
