"""Asking running jobs to give way to more urgent ones (`preemption`)."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, exists, literal_column, or_, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from shared import audit_store, user_limit_store, worker_store
from shared.attempt_progress_store import write_note
from shared.database import now_ms, read_clock
from shared.job_order_store import CLAIM_ORDER
from shared.job_status import Desired, JobKind, JobStatus
from shared.preemption import Occupant, Slot, Urgent, choose_giving_way
from shared.tables import Attempt, Job, PausedQueue

LOOKED_AT = 500  # waiting jobs, the most urgent ones


def find_giving_way(
    session: Session, *, lease_ms: int, max_running_per_user: int | None
) -> list[tuple[Occupant, Urgent]]:
    """Returns which running jobs are to give way, and to which that wait.

    Args:
        session: Any session.
        lease_ms: Of one claim. A job that has just failed is urgent only after it: the
            worker on which it failed would not take it.
        max_running_per_user: The installation's setting.
    """
    slots = _list_slots(session)
    yielding = [s for s in slots if s.occupant is not None and s.occupant.preemptible]
    if not yielding:
        return []
    waiting = _list_urgent(session, yielding, lease_ms)
    room = user_limit_store.list_room(
        session, {job.owner_id for job in waiting}, max_running_per_user
    )
    return choose_giving_way([_fit(job, room) for job in waiting], slots)


def ask(session: Session, occupant: Occupant, job: Urgent, *, actor: str) -> bool:
    """Asks one job to give way; whether it and the other are still as they were seen.

    Asked by two at once, it is asked once.
    """
    other = aliased(Job)
    waits = exists().where(other.id == job.job_id, other.state == JobStatus.QUEUED)
    asked = session.execute(
        update(Job)
        .where(
            Job.id == occupant.job_id,
            Job.fence == occupant.fence,
            Job.state == JobStatus.RUNNING,
            Job.desired == Desired.RUN,
            waits,
        )
        .values(desired=Desired.PAUSE, gives_way_to=job.job_id, updated_at=now_ms())
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if asked is None:
        return False
    audit_store.record(
        session, actor, "job_gives_way", "job", occupant.job_id,
        {"to": job.job_id}, fence=occupant.fence,
    )  # fmt: skip
    write_note(
        session,
        occupant.job_id,
        occupant.fence,
        "info",
        f"It gives way to job {job.job_id}, which is more urgent, and goes on later "
        "from where it was.",
    )
    return True


def _list_urgent(
    session: Session, yielding: Sequence[Slot], lease_ms: int
) -> list[Urgent]:
    """Returns what the workers of those who may give way could take instead."""
    places = {
        (kind, queue)
        for slot in yielding
        for kind in slot.kinds
        for queue in slot.queues
    }
    lowest = min(s.occupant.priority for s in yielding if s.occupant is not None)
    rows = session.execute(
        select(Job.id, Job.kind, Job.queue, Job.gpu_mem_mb, Job.priority, Job.owner_id)
        .where(
            # In so many words, as the claim has it: then its index serves.
            Job.state == literal_column(f"'{JobStatus.QUEUED}'"),
            Job.desired.in_([Desired.RUN, Desired.FINISH]),
            Job.priority > lowest,
            Job.kind != JobKind.FORECAST,  # too short to stop anybody for
            tuple_(Job.kind, Job.queue).in_(places),
            Job.gpu_mem_mb <= max(slot.gpu_mem_mb for slot in yielding),
            Job.not_before <= now_ms(),
            or_(Job.attempts == 0, Job.not_before <= now_ms() - lease_ms),
            Job.queue.not_in(select(PausedQueue.name)),
        )
        .order_by(*CLAIM_ORDER)
        .limit(LOOKED_AT)
    )
    return [Urgent(*row) for row in rows]


def _fit(job: Urgent, room: dict[int, int]) -> Urgent:
    """Counts the job against its owner's room, where the owner is limited."""
    if job.kind != JobKind.TRAIN or job.owner_id not in room:
        return job
    room[job.owner_id] -= 1
    if room[job.owner_id] >= 0:
        return job
    return Urgent(**{**vars(job), "needs_own": True})


def _list_slots(session: Session) -> list[Slot]:
    now = read_clock(session)
    occupants = {row.worker_id: row for row in session.execute(_running())}
    return [
        Slot(
            worker_id=worker.id,
            kinds=frozenset(worker.kinds),
            queues=frozenset(worker.queues),
            gpu_mem_mb=worker.gpu_mem_mb,
            occupant=_make_occupant(occupants.get(worker.id)),
        )
        for worker in worker_store.list_workers(session)
        if worker.status == worker_store.ACTIVE and worker_store.is_alive(worker, now)
    ]


def _running() -> Any:
    return (
        select(
            Job.id,
            Job.fence,
            Job.priority,
            Job.preemptible,
            Job.owner_id,
            Job.worker_id,
            Job.desired,
            Attempt.started_at,
        )
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence))
        .where(Job.state == JobStatus.RUNNING)
    )


def _make_occupant(row: Row[Any] | None) -> Occupant | None:
    if row is None or row.desired in {Desired.PAUSE, Desired.CANCEL}:
        return None  # it stops within seconds
    may = row.preemptible and row.desired == Desired.RUN
    return Occupant(row.id, row.fence, row.priority, may, row.started_at, row.owner_id)
