"""Deleting a dataset with its versions, forecasts, uploads and packs."""

from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shared import audit_store, job_store
from shared.dataset_store import get_dataset, list_versions
from shared.deletion import DeletionPlan, count_of
from shared.errors import ConflictError
from shared.job_status import TERMINAL, JobKind
from shared.tables import Dataset, DatasetVersion, Job
from shared.upload_use_store import find_uploads, list_needed

NAMED_JOBS = 5  # how many a refusal names


def deletion_plan(session: Session, dataset_id: int) -> DeletionPlan:
    """Returns what goes when a dataset is deleted.

    Raises:
        NotFoundError: When there is none.
    """
    dataset = get_dataset(session, dataset_id)
    versions = list_versions(session, dataset_id)
    jobs = session.execute(
        select(Job.id, Job.kind, Job.state, Job.spec).where(
            Job.dataset_id == dataset_id
        )
    ).all()
    ingests = [job for job in jobs if job.kind == JobKind.INGEST]
    forecasts = [job for job in jobs if job.kind == JobKind.FORECAST]
    others = len(jobs) - len(ingests) - len(forecasts)
    unfinished = [
        job.id
        for job in jobs
        if job.kind != JobKind.FORECAST and job.state not in TERMINAL
    ]
    images = sum(version.images for version in versions)
    counts = {
        "versions": len(versions),
        "images": images,
        "ingest_jobs": len(ingests),
        "forecast_jobs": len(forecasts),
        "other_jobs": others,
    }
    stays = []
    if others:
        stays.append(
            f"{count_of(others, 'finished job')} made from it, and the models they "
            "published. The jobs cannot be tried again."
        )
    return DeletionPlan(
        title=f"Dataset {dataset.name!r}",
        goes=[
            (
                f"{count_of(len(versions), 'version')} with "
                f"{count_of(images, 'image')}, originals and thumbnails."
            ),
            f"{count_of(len(ingests), 'job')} that read it in, and the uploads.",
            *_tell_forecasts(forecasts),
        ],
        stays=stays,
        counts=counts,
        size_bytes=sum(version.size_bytes for version in versions),
        paths=_list_paths(session, dataset_id, versions, [*ingests, *forecasts]),
        blocked=_refuse_unfinished(dataset.name, unfinished),
    )


def delete_dataset(session: Session, dataset_id: int, *, actor: str) -> DeletionPlan:
    """Deletes a dataset's rows; remove `plan.paths` after the commit.

    Whatever is not removed then, the reconciler's collection finds: no row names it.
    Forecasts that are not done are cancelled, as a user would: one that runs stops at
    its next heartbeat, publishes nothing, and its row stays, cancelled.

    Returns:
        What went.

    Raises:
        ConflictError: While other unfinished jobs work on it.
        NotFoundError: When there is none.
    """
    # `submit` locks this row too, so no job can come between the check and the end.
    session.execute(
        select(Dataset.id).where(Dataset.id == dataset_id).with_for_update()
    )
    _cancel_forecasts(session, dataset_id, actor)
    plan = deletion_plan(session, dataset_id)
    if plan.blocked:
        raise ConflictError(plan.blocked)
    session.execute(
        delete(Job).where(
            Job.dataset_id == dataset_id,
            Job.kind.in_([JobKind.INGEST, JobKind.FORECAST]),
            Job.state.in_(TERMINAL),
        )
    )
    session.execute(delete(Dataset).where(Dataset.id == dataset_id))
    audit_store.record(
        session,
        actor,
        "dataset_deleted",
        "dataset",
        dataset_id,
        {"title": plan.title, **plan.counts, "size_bytes": plan.size_bytes},
    )
    return plan


def _cancel_forecasts(session: Session, dataset_id: int, actor: str) -> None:
    unfinished = session.scalars(
        select(Job.id).where(
            Job.dataset_id == dataset_id,
            Job.kind == JobKind.FORECAST,
            Job.state.not_in(TERMINAL),
        )
    ).all()
    for job_id in unfinished:  # one that ends at this moment needs no word of ours
        job_store.is_admitted(
            lambda job_id=job_id: job_store.cancel(session, job_id, actor=actor)
        )


def _tell_forecasts(forecasts: list[Any]) -> list[str]:
    if not forecasts:
        return []
    words = f"{count_of(len(forecasts), 'job')} that forecast it, and what they found"
    at_work = sum(job.state not in TERMINAL for job in forecasts)
    return [
        f"{words}; {at_work} not done yet will be cancelled."
        if at_work
        else f"{words}."
    ]


def _list_paths(
    session: Session,
    dataset_id: int,
    versions: list[DatasetVersion],
    jobs: list[Any],
) -> list[str]:
    paths = [f"datasets/{dataset_id}"]
    fingerprints = {version.fingerprint for version in versions}
    shared_with = set(
        session.scalars(
            select(DatasetVersion.fingerprint).where(
                DatasetVersion.fingerprint.in_(fingerprints),
                DatasetVersion.dataset_id != dataset_id,
            )
        )
    )
    paths += [f"packs/{fingerprint}" for fingerprint in fingerprints - shared_with]
    needed = list_needed(session, {job.id for job in jobs})
    for job in jobs:
        if job.state in TERMINAL:
            paths.append(f"jobs/{job.id}")
        paths += [f"uploads/{name}" for name in find_uploads(job.spec) - needed]
    return sorted(set(paths))


def _refuse_unfinished(name: str, job_ids: list[int]) -> str | None:
    if not job_ids:
        return None
    named = ", ".join(str(job_id) for job_id in sorted(job_ids)[:NAMED_JOBS])
    more = f" and {len(job_ids) - NAMED_JOBS} more" if len(job_ids) > NAMED_JOBS else ""
    verb = "works" if len(job_ids) == 1 else "work"
    noun = "job" if len(job_ids) == 1 else "jobs"
    return (
        f"Dataset {name!r} cannot be deleted while {noun} {named}{more} {verb} on it: "
        "cancel first."
    )
