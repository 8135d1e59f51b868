"""The order in which waiting jobs are claimed, and how a user changes it.

Jobs stand by priority, then by their owners' fair turns, then by `place`, then by age.
The first forecast of a version has a priority above all others: it is short, and
trainings are chosen by it. One that somebody asks for queues as a training does.
A job that is moved takes priority and turn of its new neighbour, and a place beside it.
"""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session, joinedload

from shared import audit_store
from shared.database import now_ms
from shared.errors import ConflictError, NotFoundError, UserError
from shared.job_status import JobStatus
from shared.pages import Page, read_page
from shared.tables import Job

CLAIM_ORDER = (Job.priority.desc(), Job.fair_rank, Job.place, Job.id)
_LAST_FIRST = (Job.priority, Job.fair_rank.desc(), Job.place.desc(), Job.id.desc())
GAP = 1 << 20  # between places: twenty jobs fit between two before all are spaced anew

Step = Literal["first", "up", "down", "last"]
Side = Literal["before", "after"]


@dataclass(frozen=True)
class Target:
    """A place in the queue: directly before or after another job."""

    neighbour_id: int
    side: Side


def list_waiting(
    session: Session, kind: str, *, page: int = 1, page_size: int = 50
) -> Page[Job]:
    """Returns one page of the queued jobs of `kind`, the next one to start first.

    Some may have to wait for a time or for a worker of theirs, and are overtaken.

    Args:
        session: Any session.
        kind: Of jobs; each kind has an order of its own.
        page: From 1.
        page_size: 1 to 500.
    """
    query = (
        select(Job)
        .where(Job.kind == kind, Job.state == JobStatus.QUEUED)
        .options(joinedload(Job.owner), joinedload(Job.dataset), joinedload(Job.model))
        .order_by(*CLAIM_ORDER)
    )
    return read_page(session, query, page, page_size)


def find_neighbour(session: Session, job_id: int, step: Step) -> Target | None:
    """Returns where a step leads a waiting job; None when it is at that end already.

    Args:
        session: Any session.
        job_id: The job.
        step: Before or behind all others of its kind, or past one.

    Raises:
        ConflictError: Unless the job is queued.
        NotFoundError: When there is no such job.
    """
    job = _get_waiting(session, job_id)
    rest = select(Job.id).where(
        Job.kind == job.kind, Job.state == JobStatus.QUEUED, Job.id != job.id
    )
    key = tuple_(-Job.priority, Job.fair_rank, Job.place, Job.id)
    own = (-job.priority, job.fair_rank, job.place, job.id)
    candidates = {
        "first": rest.order_by(*CLAIM_ORDER),
        "up": rest.where(key < own).order_by(*_LAST_FIRST),
        "down": rest.where(key > own).order_by(*CLAIM_ORDER),
        "last": rest.order_by(*_LAST_FIRST),
    }
    neighbour_id = session.scalar(candidates[step].limit(1))
    if neighbour_id is None:
        return None
    return Target(neighbour_id, "before" if step in {"first", "up"} else "after")


def move(session: Session, job_id: int, target: Target, *, actor: str) -> None:
    """Puts a waiting job directly before or after another one.

    Done a second time it changes nothing more.

    Raises:
        ConflictError: Unless both jobs are queued.
        NotFoundError: When there is no such job.
        UserError: When they are one job, or of two kinds.
    """
    job = _get_waiting(session, job_id)
    neighbour = _get_waiting(session, target.neighbour_id)
    if job.id == neighbour.id:
        raise UserError(
            f"Job {job_id} cannot be moved beside itself.", field=target.side
        )
    if job.kind != neighbour.kind:
        raise UserError(
            f"Jobs {job_id} ({job.kind}) and {neighbour.id} ({neighbour.kind}) are of "
            "two kinds, and each kind has an order of its own.",
            field=target.side,
        )
    _put(session, job, neighbour, target.side, actor)


def _get_waiting(session: Session, job_id: int) -> Job:
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise NotFoundError(f"There is no job {job_id}.", field="job")
    if job.state != JobStatus.QUEUED:
        raise ConflictError(
            f"Job {job_id} is {job.state}; only jobs that are queued have a place in "
            "the queue. Look at the queue again."
        )
    return job


def _put(session: Session, job: Job, neighbour: Job, side: Side, actor: str) -> None:
    place = _make_room(session, job, neighbour, side)
    moved = session.execute(
        update(Job)
        .where(Job.id == job.id, Job.state == JobStatus.QUEUED)
        .values(
            priority=neighbour.priority,
            fair_rank=neighbour.fair_rank,
            place=place,
            updated_at=now_ms(),
        )
        .returning(Job.fence)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if moved is None:  # claimed since it was read
        raise ConflictError(f"Job {job.id} waits no longer: it has just been started.")
    audit_store.record(
        session, actor, "job_moved", "job", job.id, {side: neighbour.id},
        fence=moved.fence,
    )  # fmt: skip


def _make_room(session: Session, job: Job, neighbour: Job, side: Side) -> int:
    """Returns a place beside `neighbour`; spaces its equals anew when there is none."""
    equals = session.execute(
        select(Job.id, Job.place)
        .where(
            Job.kind == neighbour.kind,
            Job.state == JobStatus.QUEUED,
            Job.priority == neighbour.priority,
            Job.fair_rank == neighbour.fair_rank,
            Job.id != job.id,
        )
        .order_by(Job.place, Job.id)
        .with_for_update()
    ).all()
    numbers = [row.id for row in equals]
    if neighbour.id not in numbers:  # claimed or moved since it was read
        raise ConflictError(
            f"Job {neighbour.id} stands there no longer. Look at the queue again."
        )
    at = numbers.index(neighbour.id) + (side == "after")
    if at == 0:
        return equals[0].place - GAP
    if at == len(equals):
        return equals[-1].place + GAP
    below, above = equals[at - 1].place, equals[at].place
    if above - below > 1:
        return (below + above) // 2
    for number, row in enumerate(equals):
        session.execute(
            update(Job)
            .where(Job.id == row.id)
            .values(place=(number + (number >= at)) * GAP)
            .execution_options(synchronize_session=False)
        )
    return at * GAP
