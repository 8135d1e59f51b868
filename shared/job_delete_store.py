"""Deleting a job that has ended, with its attempts, checkpoints, curves and log."""

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from shared import audit_store
from shared.deletion import DeletionPlan, count_of
from shared.errors import ConflictError, NotFoundError
from shared.job_status import JobKind, JobStatus, is_terminal
from shared.tables import Attempt, Checkpoint, Job, ModelVersion
from shared.upload_use_store import find_uploads, list_needed


def deletion_plan(session: Session, job_id: int) -> DeletionPlan:
    """Returns what goes when a job is deleted.

    Raises:
        NotFoundError: When there is none.
    """
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise NotFoundError(f"There is no job {job_id}.", field="job")
    attempts = session.execute(
        select(func.count()).select_from(Attempt).where(Attempt.job_id == job_id)
    ).scalar_one()
    checkpoints, size_bytes = session.execute(
        select(func.count(), func.coalesce(func.sum(Checkpoint.size_bytes), 0)).where(
            Checkpoint.job_id == job_id
        )
    ).one()
    published = session.scalar(
        select(ModelVersion.version).where(
            ModelVersion.job_id == job_id, ModelVersion.deleted_at.is_(None)
        )
    )
    stays = []
    if published is not None:
        stays.append(f"The model version it published (version {published}).")
    paths = [f"jobs/{job_id}"]
    if job.kind == JobKind.FORECAST and job.state == JobStatus.SUCCEEDED:
        stays.append("The forecast that it made.")
    if job.kind == JobKind.INGEST:
        stays.append("The dataset and its versions.")
        uploads = find_uploads(job.spec) - list_needed(session, {job_id})
        paths += [f"uploads/{name}" for name in sorted(uploads)]
    return DeletionPlan(
        title=f"Job {job_id} ({job.title})",
        goes=[
            f"{count_of(attempts, 'attempt')} with their logs and learning curves.",
            f"{count_of(checkpoints, 'checkpoint')}.",
        ],
        stays=stays,
        counts={"attempts": attempts, "checkpoints": checkpoints},
        size_bytes=int(size_bytes),
        paths=paths,
        blocked=None
        if is_terminal(job.state)
        else f"Job {job_id} is {job.state}: cancel it first.",
    )


def delete_job(session: Session, job_id: int, *, actor: str) -> DeletionPlan:
    """Deletes the rows of a job; remove `plan.paths` after the commit.

    Returns:
        What went.

    Raises:
        ConflictError: While it has not ended.
        NotFoundError: When there is none.
    """
    locked = session.execute(
        select(Job.id).where(Job.id == job_id).with_for_update()
    ).one_or_none()
    if locked is None and session.info.get("retrying"):  # our COMMIT had come through
        return DeletionPlan(f"Job {job_id}", paths=[f"jobs/{job_id}"])
    plan = deletion_plan(session, job_id)
    if plan.blocked:
        raise ConflictError(plan.blocked)
    session.execute(delete(Job).where(Job.id == job_id))
    audit_store.record(
        session,
        actor,
        "job_deleted",
        "job",
        job_id,
        {"title": plan.title, **plan.counts, "size_bytes": plan.size_bytes},
    )
    return plan
