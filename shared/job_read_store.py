"""What pages and API read of jobs; writes nothing."""

import math
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from shared.errors import NotFoundError
from shared.pages import Page, read_page
from shared.sql_dialect import in_parts
from shared.tables import Attempt, Checkpoint, Job, Metric, Note

MAX_LISTED = 500  # attempts, checkpoints or notes of one page

_WITH_NAMES = (
    joinedload(Job.owner),
    joinedload(Job.dataset),
    joinedload(Job.model),
)


def get_job(session: Session, job_id: int) -> Job:
    """Returns a job with its owner, dataset and model.

    Raises:
        NotFoundError: When there is none.
    """
    job = session.scalars(
        select(Job)
        .where(Job.id == job_id)
        .options(*_WITH_NAMES)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if job is None:
        raise NotFoundError(f"There is no job {job_id}.", field="job")
    return job


def get_jobs(session: Session, job_ids: Sequence[int]) -> list[Job]:
    """Returns those of these jobs that exist, in their order, as `get_job` does."""
    found: dict[int, Job] = {}
    for some in in_parts(job_ids):
        rows = session.scalars(
            select(Job)
            .where(Job.id.in_(some))
            .options(*_WITH_NAMES)
            .execution_options(populate_existing=True)
        )
        found |= {job.id: job for job in rows}
    return [found[number] for number in job_ids if number in found]


def list_group(session: Session, group_key: str) -> list[Job]:
    """Returns all jobs of one submission, in its order, as `get_job` does.

    Raises:
        NotFoundError: When no job belongs to it.
    """
    jobs = session.scalars(
        select(Job)
        .where(Job.group_key == group_key)
        .options(*_WITH_NAMES)
        .order_by(Job.id)
    ).all()
    if not jobs:
        raise NotFoundError("There is no such submission, or its jobs were deleted.")
    return list(jobs)


def find_job_by_key(session: Session, owner_id: int, key: str) -> Job | None:
    """Returns the job that this user submitted under an idempotency key, or None."""
    return session.scalars(
        select(Job)
        .where(Job.owner_id == owner_id, Job.idempotency_key == key)
        .options(*_WITH_NAMES)
    ).one_or_none()


def list_jobs(
    session: Session,
    *,
    states: list[str] | None = None,
    kind: str | None = None,
    dataset_id: int | None = None,
    group_key: str | None = None,
    page: int = 1,
    page_size: int = 50,
) -> Page[Job]:
    """Returns one page of jobs, newest first, with owner, dataset and model.

    Args:
        session: Any session.
        states: Only jobs in these states.
        kind: Only jobs of this kind.
        dataset_id: Only jobs on this dataset.
        group_key: Only jobs of this submission.
        page: From 1.
        page_size: 1 to 500.
    """
    query = select(Job).options(*_WITH_NAMES).order_by(Job.id.desc())
    if states:
        query = query.where(Job.state.in_(states))
    if kind is not None:
        query = query.where(Job.kind == kind)
    if dataset_id is not None:
        query = query.where(Job.dataset_id == dataset_id)
    if group_key is not None:
        query = query.where(Job.group_key == group_key)
    return read_page(session, query, page, page_size)


def count_by_state(session: Session, *, kind: str | None = None) -> dict[str, int]:
    """Returns how many jobs (of `kind`) are in each state that has any."""
    query = select(Job.state, func.count()).group_by(Job.state)
    if kind is not None:
        query = query.where(Job.kind == kind)
    return dict(session.execute(query).all())


def metrics_curve(session: Session, job_id: int) -> list[Metric]:
    """Returns the points of all learning curves of a job, by step.

    An attempt that resumed at step s trains the steps after s again: what earlier
    attempts wrote beyond s is left out, and of one step the latest attempt's word
    counts, so a curve has neither gaps nor doubles.
    """
    starts = session.execute(
        select(Attempt.fence, Attempt.start_step)
        .where(Attempt.job_id == job_id)
        .order_by(Attempt.fence.desc())
    ).all()
    limits: dict[int, float] = {}
    limit = math.inf
    for fence, start_step in starts:  # newest first: each one cuts its elders
        limits[fence] = limit
        limit = min(limit, start_step)
    points = session.scalars(
        select(Metric)
        .where(Metric.job_id == job_id)
        .order_by(Metric.step, Metric.fence, Metric.seq)
    )
    curve = {
        (point.name, point.step): point
        for point in points
        if point.step <= limits.get(point.fence, math.inf)
    }
    return list(curve.values())


def list_attempts(session: Session, job_id: int) -> list[Attempt]:
    """Returns the attempts of a job, newest first."""
    return list(
        session.scalars(
            select(Attempt)
            .where(Attempt.job_id == job_id)
            .order_by(Attempt.fence.desc())
            .limit(MAX_LISTED)
        )
    )


def list_checkpoints(session: Session, job_id: int) -> list[Checkpoint]:
    """Returns the checkpoints of a job, newest first."""
    return list(
        session.scalars(
            select(Checkpoint)
            .where(Checkpoint.job_id == job_id)
            .order_by(
                Checkpoint.lineage.desc(),
                Checkpoint.step.desc(),
                Checkpoint.fence.desc(),
            )
            .limit(MAX_LISTED)
        )
    )


def list_notes(session: Session, job_id: int) -> list[Note]:
    """Returns the notes of a job, newest first."""
    return list(
        session.scalars(
            select(Note)
            .where(Note.job_id == job_id)
            .order_by(Note.id.desc())
            .limit(MAX_LISTED)
        )
    )
