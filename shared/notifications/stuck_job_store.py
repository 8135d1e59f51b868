"""Jobs that wait although no worker is there that could take them."""

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import Session

from shared import worker_store
from shared.database import now_ms, read_clock
from shared.job_status import Desired, JobStatus
from shared.notifications.event_store import EventKind, announce
from shared.notifications.tables import Event, Receiver
from shared.tables import Job, PausedQueue

AT_ONCE = 500  # jobs that are told of in one sweep


def announce_stuck(session: Session, waiting_seconds: float) -> int:
    """Tells of jobs that have waited so long without a worker, each one once.

    Nobody is told of a job in a queue that was paused: somebody wanted that.

    Returns:
        How many jobs were looked at.
    """
    if session.scalar(select(Receiver.id).where(Receiver.active).limit(1)) is None:
        return 0
    waiting = _has_waited(waiting_seconds)
    needs = session.execute(
        select(Job.kind, Job.queue, Job.gpu_mem_mb).where(waiting).distinct()
    ).all()
    unserved = [tuple(need) for need in needs if not _is_served(session, *need)]
    if not unserved:
        return 0
    found = session.scalars(
        select(Job.id)
        .where(waiting, tuple_(Job.kind, Job.queue, Job.gpu_mem_mb).in_(unserved))
        .order_by(Job.id)
        .limit(AT_ONCE)
    ).all()
    why = (
        f"No worker that may take it has been seen for {waiting_seconds / 60:.0f} "
        "minutes."
    )
    for job_id in found:
        announce(session, job_id, EventKind.STALLED, reason=why)
    return len(found)


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


def _is_served(session: Session, kind: str, queue: str, gpu_mem_mb: int) -> bool:
    now = read_clock(session)
    return any(
        worker.status == worker_store.ACTIVE
        and worker_store.is_alive(worker, now)
        and kind in worker.kinds
        and queue in worker.queues
        and gpu_mem_mb <= worker.gpu_mem_mb
        for worker in worker_store.list_workers(session)
    )
