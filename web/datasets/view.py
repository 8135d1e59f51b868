"""What pages show of datasets: rows copied out of the database into plain values."""

import contextlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared import dataset_store, job_read_store, user_store
from shared.errors import NotFoundError
from shared.job_status import TERMINAL, JobKind, JobStatus
from shared.tables import Dataset, DatasetVersion, Job
from web.display import shown_state
from web.jobs.view import JobRow
from web.jobs.view import make_row as make_job_row

SPLITS = ("train", "val", "test")
PAGE_SIZE = 50
MAX_LISTED = 500


@dataclass(frozen=True)
class DatasetRow:
    """A dataset as tables show it."""

    id: int
    name: str
    owner_id: int
    owner: str
    created_at: int
    state: str  # ready | reading | failed | cancelled | empty
    version: int | None
    images: int | None
    classes: int | None
    size_bytes: int | None
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class IngestRow:
    """The newest ingest job of a dataset."""

    id: int
    state: str
    shown: str
    phase: str | None
    done: int
    total: int
    unit: str | None
    eta_seconds: float | None
    reason: str | None
    is_decided: bool = False  # it makes a version of what was decided about another
    place: dict[str, Any] | None = None  # of the form that this was filled into

    @property
    def live(self) -> bool:
        """Whether it is still under way."""
        return self.state not in TERMINAL


def list_rows(session: Session, datasets: list[Dataset]) -> list[DatasetRow]:
    """Returns the rows of `datasets`, each with its newest version and ingest."""
    versions = dataset_store.latest_versions(session, [d.id for d in datasets])
    owners = user_store.find_emails(session, {d.owner_id for d in datasets})
    rows = []
    for dataset in datasets:
        version = versions.get(dataset.id)
        ingest = None if version else find_ingest(session, dataset.id)
        rows.append(_make_row(dataset, owners, version, ingest))
    return rows


def list_trainable(session: Session, chosen: list[int]) -> list[DatasetRow]:
    """Returns datasets that have a version, by name, for the submit form.

    Args:
        session: Any session.
        chosen: Datasets to list beside the newest `MAX_LISTED`.
    """
    found = list(dataset_store.list_datasets(session, page_size=MAX_LISTED).items)
    listed = {dataset.id for dataset in found}
    for dataset_id in set(chosen[:MAX_LISTED]) - listed:
        with contextlib.suppress(NotFoundError):
            found.append(dataset_store.get_dataset(session, dataset_id))
    versions = dataset_store.latest_versions(session, [d.id for d in found])
    rows = [_make_row(d, {}, versions[d.id], None) for d in found if d.id in versions]
    return sorted(rows, key=lambda row: row.name.casefold())


def find_ingest(session: Session, dataset_id: int) -> IngestRow | None:
    """Returns the newest ingest job of a dataset."""
    found = job_read_store.list_jobs(
        session, kind=JobKind.INGEST, dataset_id=dataset_id, page_size=1
    )
    return _make_ingest(found.items[0]) if found.items else None


def list_train_jobs(session: Session, dataset_id: int) -> list[JobRow]:
    """Returns the newest training jobs on a dataset."""
    found = job_read_store.list_jobs(
        session, kind=JobKind.TRAIN, dataset_id=dataset_id, page_size=20
    )
    return [make_job_row(job) for job in found.items]


def count_classes(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns one row a class: images by split, and bar lengths of 0 to 100."""
    counts = report.get("counts") or {}
    labels = report.get("classes") or sorted({k for c in counts.values() for k in c})
    rows: list[dict[str, Any]] = []
    for label in labels:
        row = {s: (counts.get(s) or {}).get(label, 0) for s in SPLITS}
        rows.append({"label": label, **row, "total": sum(row.values())})
    most = max((row["total"] for row in rows), default=0) or 1
    for row in rows:
        row["bar"] = {s: round(100 * row[s] / most, 2) for s in SPLITS}
    return rows


def total_splits(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Returns the images of each split over all classes."""
    return {split: sum(row[split] for row in rows) for split in SPLITS}


def _make_row(
    dataset: Dataset,
    owners: dict[int, str],
    version: DatasetVersion | None,
    ingest: IngestRow | None,
) -> DatasetRow:
    return DatasetRow(
        id=dataset.id,
        name=dataset.name,
        owner_id=dataset.owner_id,
        owner=owners.get(dataset.owner_id, ""),
        created_at=dataset.created_at,
        state=_state(version, ingest),
        version=version.version if version else None,
        images=version.images if version else None,
        classes=len(version.report.get("classes") or []) if version else None,
        size_bytes=version.size_bytes if version else None,
        done=ingest.done if ingest else 0,
        total=ingest.total if ingest else 0,
    )


def _state(version: DatasetVersion | None, ingest: IngestRow | None) -> str:
    if version:
        return "ready"
    if ingest is None:
        return "empty"
    if ingest.live:
        return "reading"
    return "empty" if ingest.state == JobStatus.SUCCEEDED else ingest.state


def _make_ingest(job: Job) -> IngestRow:
    return IngestRow(
        id=job.id,
        state=job.state,
        shown=shown_state(job.state, job.desired),
        phase=job.phase,
        done=job.progress_done,
        total=job.progress_total,
        unit=job.progress_unit,
        eta_seconds=job.eta_seconds,
        reason=job.reason,
        is_decided="edits" in job.spec,
        place=(job.spec.get("form") or {}).get("place"),
    )
