"""Datasets and their versions: making, finding, deleting."""

import re
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from shared import audit_store
from shared.database import now_ms
from shared.deletion import DeletionPlan, count_of
from shared.errors import ConflictError, NotFoundError
from shared.job_status import TERMINAL, JobKind
from shared.pages import Page, read_page
from shared.sql_dialect import insert
from shared.tables import Dataset, DatasetVersion, Job

UPLOAD_IN_SPEC = re.compile(r"uploads/([A-Za-z0-9][A-Za-z0-9._-]*)")
NAMED_JOBS = 5  # how many a refusal names


def create_dataset(session: Session, *, name: str, owner_id: int) -> Dataset:
    """Adds a dataset without versions; an ingest job brings the first.

    Raises:
        ConflictError: When the name is taken.
    """
    dataset_id = session.execute(
        insert(session, Dataset)
        .values(name=name, owner_id=owner_id, last_version=0, created_at=now_ms())
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(Dataset.id)
    ).scalar_one_or_none()
    if dataset_id is None:
        raise ConflictError(
            f"There is already a dataset called {name!r}. Choose another name.",
            field="name",
        )
    return get_dataset(session, dataset_id)


def get_dataset(session: Session, dataset_id: int) -> Dataset:
    """Returns a dataset.

    Raises:
        NotFoundError: When there is none.
    """
    dataset = session.get(Dataset, dataset_id, populate_existing=True)
    if dataset is None:
        raise NotFoundError(f"There is no dataset {dataset_id}.", field="dataset")
    return dataset


def find_dataset_by_name(session: Session, name: str) -> Dataset | None:
    """Returns a dataset by its exact name, or None."""
    return session.scalar(select(Dataset).where(Dataset.name == name))


def list_datasets(
    session: Session, *, page: int = 1, page_size: int = 50, search: str | None = None
) -> Page[Dataset]:
    """Returns one page of datasets, newest first.

    Args:
        session: Any session.
        page: From 1.
        page_size: 1 to 500.
        search: A part of the name, in any case.
    """
    query = select(Dataset).order_by(Dataset.id.desc())
    if search:
        query = query.where(Dataset.name.icontains(search, autoescape=True))
    return read_page(session, query, page, page_size)


def latest_version(session: Session, dataset_id: int) -> DatasetVersion | None:
    """Returns the newest version of a dataset, or None before the first."""
    return session.scalars(
        select(DatasetVersion)
        .where(DatasetVersion.dataset_id == dataset_id)
        .order_by(DatasetVersion.version.desc())
        .limit(1)
    ).first()


def latest_versions(
    session: Session, dataset_ids: list[int]
) -> dict[int, DatasetVersion]:
    """Returns the newest version of each of these datasets that has one."""
    newest = (
        select(
            DatasetVersion.dataset_id, func.max(DatasetVersion.version).label("version")
        )
        .where(DatasetVersion.dataset_id.in_(dataset_ids))
        .group_by(DatasetVersion.dataset_id)
        .subquery()
    )
    rows = session.scalars(
        select(DatasetVersion).join(
            newest,
            (DatasetVersion.dataset_id == newest.c.dataset_id)
            & (DatasetVersion.version == newest.c.version),
        )
    )
    return {row.dataset_id: row for row in rows}


def list_versions(session: Session, dataset_id: int) -> list[DatasetVersion]:
    """Returns the versions of a dataset, newest first."""
    return list(
        session.scalars(
            select(DatasetVersion)
            .where(DatasetVersion.dataset_id == dataset_id)
            .order_by(DatasetVersion.version.desc())
        )
    )


def get_version(session: Session, version_id: int) -> DatasetVersion:
    """Returns a dataset version by the number of its row (`jobs.dataset_version_id`).

    Raises:
        NotFoundError: When there is none.
    """
    version = session.get(DatasetVersion, version_id)
    if version is None:
        raise NotFoundError(f"There is no dataset version {version_id}.")
    return version


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
    others = len(jobs) - len(ingests)
    unfinished = [job.id for job in jobs if job.state not in TERMINAL]
    images = sum(version.images for version in versions)
    counts = {
        "versions": len(versions),
        "images": images,
        "ingest_jobs": len(ingests),
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
        ],
        stays=stays,
        counts=counts,
        size_bytes=sum(version.size_bytes for version in versions),
        paths=_list_paths(session, dataset_id, versions, ingests),
        blocked=_refuse_unfinished(dataset.name, unfinished),
    )


def delete_dataset(session: Session, dataset_id: int, *, actor: str) -> DeletionPlan:
    """Deletes a dataset's rows; remove `plan.paths` after the commit.

    Whatever is not removed then, the reconciler's collection finds: no row names it.

    Returns:
        What went.

    Raises:
        ConflictError: While unfinished jobs work on it.
        NotFoundError: When there is none.
    """
    # `submit` locks this row too, so no job can come between the check and the end.
    session.execute(
        select(Dataset.id).where(Dataset.id == dataset_id).with_for_update()
    )
    plan = deletion_plan(session, dataset_id)
    if plan.blocked:
        raise ConflictError(plan.blocked)
    session.execute(
        delete(Job).where(Job.dataset_id == dataset_id, Job.kind == JobKind.INGEST)
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


def _list_paths(
    session: Session,
    dataset_id: int,
    versions: list[DatasetVersion],
    ingests: list[Any],
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
    for job in ingests:
        paths.append(f"jobs/{job.id}")
        paths += [f"uploads/{name}" for name in find_uploads(job.spec)]
    return sorted(set(paths))


def map_uploads_to_jobs(session: Session, owner_id: int) -> dict[str, int]:
    """Returns the ingest job of each upload that one of this user's jobs names."""
    rows = session.execute(
        select(Job.id, Job.spec).where(
            Job.kind == JobKind.INGEST, Job.owner_id == owner_id
        )
    )
    return {name: job_id for job_id, spec in rows for name in find_uploads(spec)}


def find_uploads(spec: dict[str, Any]) -> set[str]:
    """Returns the upload ids that the sources of an ingest spec lie in."""
    paths = [str(source.get("path", "")) for source in spec.get("sources", [])]
    return {match for path in paths for match in UPLOAD_IN_SPEC.findall(path)}


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
