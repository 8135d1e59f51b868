"""Jobs that wait although no worker is there that could take them."""

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import Session

from shared import worker_store
from shared.database import now_ms, read_clock
from shared.job_status import Desired, JobStatus
from shared.notifications.event_store import ADMIN, EventKind, announce
from shared.notifications.tables import Event, Receiver
from shared.tables import Job, PausedQueue, User, Worker

AT_ONCE = 50  # jobs that are told of in one transaction


def list_stuck(session: Session, waiting_seconds: float) -> list[int]:
    """Returns some jobs that have waited so long without a worker.

    Only those that somebody wants to hear of and has not heard of yet. A job in a queue
    that was paused is none: somebody wanted that.
    """
    wanted = _is_wanted(session)
    if wanted is None:
        return []
    waiting = _has_waited(waiting_seconds) & wanted
    needs = session.execute(
        select(Job.kind, Job.queue, Job.gpu_mem_mb).where(waiting).distinct()
    ).all()
    if not needs:
        return []
    workers = _list_seen(session, waiting_seconds)
    unserved = [
        tuple(need)
        for need in needs
        if not any(_may_take(worker, *need) for worker in workers)
    ]
    if not unserved:
        return []
    query = (
        select(Job.id)
        .where(waiting, tuple_(Job.kind, Job.queue, Job.gpu_mem_mb).in_(unserved))
        .order_by(Job.id)
        .limit(AT_ONCE)
    )
    return list(session.scalars(query))


def announce_stuck(
    session: Session, job_ids: list[int], waiting_seconds: float
) -> None:
    """Tells of those of these jobs that wait still."""
    why = (
        f"It has waited for {waiting_seconds / 60:.0f} minutes and more, and no worker "
        "is there that may take it."
    )
    waiting = select(Job.id).where(Job.id.in_(job_ids), Job.state == JobStatus.QUEUED)
    for job_id in session.scalars(waiting.order_by(Job.id)).all():
        announce(session, job_id, EventKind.STALLED, reason=why)


def _is_wanted(session: Session) -> ColumnElement[bool] | None:
    """Returns whose jobs somebody wants to hear of; None: nobody does."""
    rows = session.execute(
        select(Receiver.owner_id, Receiver.kinds, Receiver.everyones, User.role)
        .join(User, User.id == Receiver.owner_id)
        .where(Receiver.active, User.active)
    ).all()
    rows = [row for row in rows if EventKind.STALLED in row.kinds]
    if not rows:
        return None
    if any(row.everyones and row.role == ADMIN for row in rows):
        return Job.owner_id.is_not(None)
    return Job.owner_id.in_({row.owner_id for row in rows})


def _has_waited(seconds: float) -> ColumnElement[bool]:
    since = now_ms() - round(1000 * seconds)
    told = select(Event.id).where(
        Event.job_id == Job.id,
        Event.fence == Job.fence,
        Event.kind == EventKind.STALLED,
    )
    return (
        (Job.state == JobStatus.QUEUED)
        & Job.desired.in_([Desired.RUN, Desired.FINISH])
        & (Job.not_before <= since)
        & (Job.updated_at <= since)
        & Job.queue.not_in(select(PausedQueue.name))
        & ~told.exists()
    )


def _list_seen(session: Session, seconds: float) -> list[Worker]:
    """Returns workers seen meanwhile, also those that left: they may be back soon."""
    since = read_clock(session) - round(1000 * seconds)
    return [
        worker
        for worker in worker_store.list_workers(session)
        if worker.seen_at > since and worker.status != worker_store.QUARANTINED
    ]


def _may_take(worker: Worker, kind: str, queue: str, gpu_mem_mb: int) -> bool:
    return (
        kind in worker.kinds
        and queue in worker.queues
        and gpu_mem_mb <= worker.gpu_mem_mb
    )
