"""Which running jobs give way to more urgent ones that wait: pure rules.

A job gives way only if its owner has allowed it (`preemptible`), only to a job of
higher priority, and only where no worker is free for that one, nor about to be. It
saves its state and waits again; then the urgent job, being first in the queue, takes
the worker.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """A worker that takes jobs.

    Args:
        worker_id: Its number.
        kinds: Of jobs that it does.
        queues: That it serves.
        gpu_mem_mb: Memory of its GPU, MiB.
        occupant: What runs on it; None: it is free, or about to be.
    """

    worker_id: int
    kinds: frozenset[str]
    queues: frozenset[str]
    gpu_mem_mb: int
    occupant: "Occupant | None" = None


@dataclass(frozen=True)
class Occupant:
    """A running job.

    Args:
        job_id: Its number.
        fence: Of the running attempt.
        priority: Of the job.
        preemptible: Whether it may be asked to give way.
        started_at: When the attempt began, in milliseconds.
        owner_id: Whose job it is.
    """

    job_id: int
    fence: int
    priority: int
    preemptible: bool
    started_at: int
    owner_id: int = 0


@dataclass(frozen=True)
class Urgent:
    """A job that is due and waits.

    `needs_own`: its owner has as many running as allowed, so that it can start only
    when another one of the same owner's gives way.
    """

    job_id: int
    kind: str
    queue: str
    gpu_mem_mb: int
    priority: int
    owner_id: int = 0
    needs_own: bool = False


def choose_giving_way(
    waiting: list[Urgent], slots: list[Slot]
) -> list[tuple[Occupant, Urgent]]:
    """Returns who gives way to whom.

    Args:
        waiting: In the order of their claim.
        slots: Every worker that takes jobs.
    """
    left = list(slots)
    chosen = []
    for job in waiting:
        able = [slot for slot in left if _may_take(slot, job)]
        free = [slot for slot in able if slot.occupant is None]
        if free and not job.needs_own:
            # The smallest that will do, so that larger ones stay for who needs them.
            left.remove(min(free, key=lambda slot: slot.gpu_mem_mb))
            continue
        yielding = [
            (slot.occupant, slot)
            for slot in able
            if slot.occupant is not None
            and slot.occupant.preemptible
            and slot.occupant.priority < job.priority
            and (not job.needs_own or slot.occupant.owner_id == job.owner_id)
        ]
        if not yielding:
            continue
        # The least urgent one, and of equals the one that has begun last.
        occupant, slot = min(
            yielding, key=lambda found: (found[0].priority, -found[0].started_at)
        )
        left.remove(slot)
        chosen.append((occupant, job))
    return chosen


def _may_take(slot: Slot, job: Urgent) -> bool:
    return (
        job.kind in slot.kinds
        and job.queue in slot.queues
        and job.gpu_mem_mb <= slot.gpu_mem_mb
    )
