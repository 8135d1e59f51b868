"""Publication: a job succeeds and its result gets its number in one transaction."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shared import audit_store, forecast_store, training_promise_store
from shared.database import now_ms, read_clock
from shared.errors import Cancelled, InternalError, LostLease, OutdatedError
from shared.forecast_tables import Forecast
from shared.job_status import Desired, JobStatus
from shared.notifications import event_store
from shared.notifications.event_store import EventKind
from shared.tables import Attempt, Dataset, DatasetVersion, Job, Model, ModelVersion

OUTPUT = "model"


@dataclass(frozen=True)
class Completed:
    """The number given; `already` when this attempt had published before.

    Args:
        version: Of the model or dataset version; of a forecast, its row.
        already: Whether nothing was done.
    """

    version: int
    already: bool


def complete_train(
    session: Session,
    job_id: int,
    fence: int,
    *,
    artifact_sha: str,
    artifact_bytes: int,
    files: dict[str, Any],
    evaluation: dict[str, Any],
    result: dict[str, Any],
    output_name: str = OUTPUT,
) -> Completed:
    """Publishes a model version and ends the job as succeeded.

    Args:
        session: The writing session.
        job_id: The job.
        fence: The attempt.
        artifact_sha: SHA-256 of the SavedModel archive, which lies there already.
        artifact_bytes: Its size.
        files: Name -> {"sha256", "bytes"} of everything published with it.
        evaluation: The content of evaluation.json.
        result: The child's summary, kept with the job.
        output_name: Which output of the job this is.

    Raises:
        Cancelled: When the user has cancelled the job: end it as cancelled.
        LostLease: When the attempt no longer owns the job.
    """
    job = _succeed(session, job_id, fence, result)
    if job is None:
        version = session.scalar(
            select(ModelVersion.version).where(
                ModelVersion.job_id == job_id, ModelVersion.output_name == output_name
            )
        )
        return Completed(version or 0, already=True)
    version = session.execute(
        update(Model)  # the row's lock makes the numbers gapless
        .where(Model.id == job.model_id)
        .values(last_version=Model.last_version + 1)
        .returning(Model.last_version)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if job.model_id is None or version is None:
        raise InternalError(f"Job {job_id} names no model to publish under.")
    session.add(
        ModelVersion(
            model_id=job.model_id,
            version=version,
            job_id=job_id,
            output_name=output_name,
            artifact_sha=artifact_sha,
            artifact_bytes=artifact_bytes,
            files=files,
            evaluation=evaluation,
            created_at=now_ms(),
        )
    )
    session.flush()
    # What was finished early at a wish is not what was promised.
    if job.desired != Desired.FINISH:
        training_promise_store.deliver(
            session,
            job_id,
            fence=fence,
            running_ms=job.running_ms,
            accuracy=evaluation.get("accuracy"),
        )
    detail = {"model_id": job.model_id, "version": version}
    _close_attempt(session, job_id, fence, "model_published", detail)
    return Completed(version, already=False)


def complete_ingest(
    session: Session,
    job_id: int,
    fence: int,
    *,
    rel_path: str,
    fingerprint: str,
    images: int,
    size_bytes: int,
    report: dict[str, Any],
    forecasts: bool = False,
    made_from: int | None = None,
    changes: dict[str, Any] | None = None,
) -> Completed:
    """Publishes a dataset version and ends the job as succeeded.

    Args:
        session: The writing session.
        job_id: The job.
        fence: The attempt.
        rel_path: The published folder, below shared storage.
        fingerprint: SHA-256 over image hashes, labels and split.
        images: How many are usable.
        size_bytes: Of all its files.
        report: report.json with its lists cut to what pages show.
        forecasts: Whether a forecast of the version is queued with it.
        made_from: Number of the dataset's version that it changes, 0 for none; that
            must be the newest still. None for a version that stands by itself.
        changes: What it changed against that, in numbers and sentences.

    Raises:
        Cancelled: When the user has cancelled the job: end it as cancelled.
        LostLease: When the attempt no longer owns the job.
        OutdatedError: When the dataset has a newer version than `made_from`: what was
            changed there must not be lost. Nothing is written.
    """
    job = _succeed(session, job_id, fence, {"images": images})
    if job is None:
        version = session.scalar(
            select(DatasetVersion.version).where(DatasetVersion.job_id == job_id)
        )
        return Completed(version or 0, already=True)
    version = session.execute(
        update(Dataset)
        .where(Dataset.id == job.dataset_id)
        .values(last_version=Dataset.last_version + 1)
        .returning(Dataset.last_version)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if job.dataset_id is None or version is None:
        raise InternalError(f"Job {job_id} names no dataset to publish under.")
    if made_from is not None and version != made_from + 1:
        raise OutdatedError(
            f"Version {version - 1} was made while this one was made from "
            f"{f'version {made_from}' if made_from else 'nothing'}."
        )
    row = DatasetVersion(
        dataset_id=job.dataset_id,
        version=version,
        job_id=job_id,
        fingerprint=fingerprint,
        rel_path=rel_path,
        images=images,
        size_bytes=size_bytes,
        report=report,
        created_at=now_ms(),
        parent_id=_find_version(session, job.dataset_id, made_from),
        changes=changes,
    )
    session.add(row)
    session.flush()
    session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(dataset_version_id=row.id)
        .execution_options(synchronize_session=False)
    )
    if forecasts:
        forecast_store.ask(session, row.id, owner_id=job.owner_id, goes_first=True)
    detail = {"dataset_id": job.dataset_id, "version": version}
    _close_attempt(session, job_id, fence, "dataset_published", detail)
    return Completed(version, already=False)


def complete_forecast(
    session: Session,
    job_id: int,
    fence: int,
    *,
    rel_path: str,
    summary: dict[str, Any],
    result: dict[str, Any],
) -> Completed:
    """Publishes a forecast and ends the job as succeeded.

    Args:
        session: The writing session.
        job_id: The job.
        fence: The attempt.
        rel_path: The published folder, below shared storage.
        summary: forecast.json with its lists cut to what pages show.
        result: The child's summary, kept with the job.

    Raises:
        Cancelled: When the user has cancelled the job: end it as cancelled.
        LostLease: When the attempt no longer owns the job.
    """
    job = _succeed(session, job_id, fence, result)
    if job is None:
        made = session.scalar(select(Forecast.id).where(Forecast.job_id == job_id))
        return Completed(made or 0, already=True)
    if job.dataset_version_id is None:
        raise InternalError(f"Job {job_id} names no dataset version to forecast.")
    row = Forecast(
        dataset_version_id=job.dataset_version_id,
        job_id=job_id,
        rel_path=rel_path,
        summary=summary,
        created_at=now_ms(),
    )
    session.add(row)
    session.flush()
    detail = {"dataset_id": job.dataset_id, "forecast": row.id}
    _close_attempt(session, job_id, fence, "forecast_published", detail)
    return Completed(row.id, already=False)


def _find_version(session: Session, dataset_id: int, number: int | None) -> int | None:
    return session.scalar(
        select(DatasetVersion.id).where(
            DatasetVersion.dataset_id == dataset_id, DatasetVersion.version == number
        )
    )


def _succeed(
    session: Session, job_id: int, fence: int, result: dict[str, Any]
) -> Job | None:
    """Moves the job to succeeded; returns None when this attempt had done it before."""
    now = read_clock(session)
    started_at = (
        select(Attempt.started_at)
        .where(Attempt.job_id == job_id, Attempt.fence == fence)
        .scalar_subquery()
    )
    job = session.scalars(
        update(Job)
        .where(
            Job.id == job_id,
            Job.fence == fence,
            Job.state == JobStatus.RUNNING,
            Job.desired != Desired.CANCEL,
        )
        .values(
            state=JobStatus.SUCCEEDED,
            lease_until=None,
            worker_id=None,
            result=result,
            reason=None,
            failure_code=None,
            eta_seconds=None,
            gives_way_to=None,
            running_ms=Job.running_ms + now - started_at,
            ended_at=now,
            updated_at=now,
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    ).one_or_none()
    if job is not None:
        return job
    seen = session.execute(
        select(Job.state, Job.fence, Job.desired).where(Job.id == job_id)
    ).one_or_none()
    if seen == (JobStatus.SUCCEEDED, fence, seen.desired if seen else None):
        return None
    if seen is not None and seen[:2] == (JobStatus.RUNNING, fence):
        raise Cancelled(f"job {job_id}, attempt {fence}")
    raise LostLease(f"job {job_id}, attempt {fence}")


def _close_attempt(
    session: Session, job_id: int, fence: int, event: str, detail: dict[str, Any]
) -> None:
    attempt = session.get_one(Attempt, (job_id, fence), populate_existing=True)
    attempt.ended_at = read_clock(session)
    attempt.outcome = "succeeded"
    attempt.progressed = True
    attempt.exit_code = 0
    session.flush()
    audit_store.record(
        session,
        f"worker:{attempt.worker_id}",
        event,
        "job",
        job_id,
        detail,
        fence=fence,
    )
    event_store.announce(session, job_id, EventKind.FINISHED)
