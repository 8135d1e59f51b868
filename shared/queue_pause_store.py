"""Queues as a whole: how much is in each, and whether jobs are started from it."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from shared import audit_store, job_store, promise_store
from shared.database import now_ms
from shared.errors import UserError
from shared.job_status import Desired, JobStatus
from shared.job_submit_store import DEFAULT_QUEUE
from shared.sql_dialect import insert, wait_for_claims
from shared.tables import Job, PausedQueue, Worker
from shared.worker_store import GONE

LONGEST_NAME = 64
COUNTED = (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSED)


@dataclass(frozen=True)
class QueueState:
    """One queue.

    Args:
        name: What jobs and workers call it.
        queued: Jobs that wait in it.
        running: Jobs that run.
        paused: Jobs that were set aside.
        workers: Workers that serve it and have not left.
        paused_at: Since when no job is started from it, in milliseconds; None: it is
            open.
    """

    name: str
    queued: int
    running: int
    paused: int
    workers: int
    paused_at: int | None


def list_paused(session: Session) -> frozenset[str]:
    """Returns the names of the queues from which no job is started."""
    return frozenset(session.scalars(select(PausedQueue.name)))


def list_queues(session: Session) -> list[QueueState]:
    """Returns every queue that has jobs, workers or a pause, and the usual one."""
    counts: dict[str, dict[str, int]] = {}
    rows = session.execute(
        select(Job.queue, Job.state, func.count())
        .where(Job.state.in_(COUNTED))
        .group_by(Job.queue, Job.state)
    )
    for queue, state, count in rows:
        counts.setdefault(queue, {})[state] = count
    served: dict[str, int] = {}
    for queues in session.scalars(select(Worker.queues).where(Worker.status != GONE)):
        for queue in queues:
            served[queue] = served.get(queue, 0) + 1
    since = dict(session.execute(select(PausedQueue.name, PausedQueue.paused_at)).all())
    return [
        QueueState(
            name=name,
            **{state: counts.get(name, {}).get(state, 0) for state in COUNTED},
            workers=served.get(name, 0),
            paused_at=since.get(name),
        )
        for name in sorted({DEFAULT_QUEUE, *counts, *served, *since})
    ]


def pause(
    session: Session, name: str, *, actor: str, running_too: bool = False
) -> list[int]:
    """Starts no more jobs from a queue until it is resumed.

    Args:
        session: The writing session.
        name: The queue; it need not have any job yet.
        actor: Who asks.
        running_too: Ask every running job of the queue to save its state and stop.

    Returns:
        The running jobs that were asked.

    Raises:
        UserError: When the name can be no queue's.
    """
    if not name or len(name) > LONGEST_NAME:
        raise UserError(
            f"A queue's name has 1 to {LONGEST_NAME} characters. Received: {name!r}.",
            field="queue",
        )
    # A claim that has read the queues before may still take a job from this one.
    wait_for_claims(session, alone=True)
    paused = session.execute(
        insert(session, PausedQueue)
        .values(name=name, paused_at=now_ms(), paused_by=actor)
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(PausedQueue.name)
    ).one_or_none()
    if paused:
        audit_store.record(session, actor, "queue_paused", "queue", name)
    if not running_too:
        return []
    return [
        number
        for number in _list_jobs(session, name, Job.state == JobStatus.RUNNING)
        if job_store.is_admitted(
            lambda number=number: job_store.pause(session, number, actor=actor)
        )
    ]


def resume(
    session: Session, name: str, *, actor: str, paused_too: bool = False
) -> list[int]:
    """Lets jobs be started from a queue again.

    Args:
        session: The writing session.
        name: The queue; one that is open stays so.
        actor: Who asks.
        paused_too: Put every paused job of the queue back into it.

    Returns:
        The jobs that were put back.
    """
    resumed = session.execute(
        delete(PausedQueue).where(PausedQueue.name == name).returning(PausedQueue.name)
    ).one_or_none()
    if resumed:
        audit_store.record(session, actor, "queue_resumed", "queue", name)
        waiting = (Job.queue == name) & (Job.state == JobStatus.QUEUED)
        promise_store.forget(session, waiting)
    if not paused_too:
        return []
    stops = (Job.state == JobStatus.RUNNING) & (Job.desired == Desired.PAUSE)
    return [
        number
        for number in _list_jobs(session, name, (Job.state == JobStatus.PAUSED) | stops)
        if job_store.is_admitted(
            lambda number=number: job_store.resume(session, number, actor=actor)
        )
    ]


def _list_jobs(session: Session, queue: str, which: ColumnElement[bool]) -> list[int]:
    found = select(Job.id).where(Job.queue == queue, which).order_by(Job.id)
    return list(session.scalars(found))
