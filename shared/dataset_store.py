"""Datasets and their versions: making and finding."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.database import now_ms
from shared.errors import ConflictError, NotFoundError
from shared.pages import Page, read_page
from shared.sql_dialect import insert
from shared.tables import Dataset, DatasetVersion, Job
from shared.upload_use_store import LET_GO


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


def hold_name(session: Session, name: str) -> None:
    """Lets no other transaction hold this name until this one ends.

    Only the name of a dataset that is there can be held; for a new one the names are
    unique.
    """
    named = select(Dataset.id).where(Dataset.name == name)
    session.execute(named.with_for_update(key_share=True))


def find_given_up(session: Session, name: str, owner_id: int) -> Dataset | None:
    """Returns a user's dataset of this name that never came to hold anything.

    Every job that was to read it failed or was cancelled, so another one may. Whoever
    queues one calls `hold_name` before, or another request does so, too.
    """
    unfinished = select(Job.id).where(
        Job.dataset_id == Dataset.id, Job.state.not_in(LET_GO)
    )
    return session.scalar(
        select(Dataset).where(
            Dataset.name == name,
            Dataset.owner_id == owner_id,
            Dataset.last_version == 0,
            ~unfinished.exists(),
        )
    )


def list_by_id(session: Session, dataset_ids: list[int]) -> list[Dataset]:
    """Returns those of these datasets that are there."""
    return list(session.scalars(select(Dataset).where(Dataset.id.in_(dataset_ids))))


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


def find_version(
    session: Session, dataset_id: int, number: int
) -> DatasetVersion | None:
    """Returns a version of a dataset by its number, or None."""
    return session.scalars(
        select(DatasetVersion).where(
            DatasetVersion.dataset_id == dataset_id, DatasetVersion.version == number
        )
    ).one_or_none()


def get_version(session: Session, version_id: int) -> DatasetVersion:
    """Returns a dataset version by the number of its row (`jobs.dataset_version_id`).

    Raises:
        NotFoundError: When there is none.
    """
    version = session.get(DatasetVersion, version_id)
    if version is None:
        raise NotFoundError(f"There is no dataset version {version_id}.")
    return version


def get_numbered_version(
    session: Session, dataset_id: int, number: int
) -> DatasetVersion:
    """Returns a version of a dataset by its number.

    Raises:
        NotFoundError: When there is no such dataset or version.
    """
    dataset = get_dataset(session, dataset_id)
    version = find_version(session, dataset_id, number)
    if version is None:
        raise NotFoundError(
            f"Dataset {dataset.name!r} has no version {number}.", field="version"
        )
    return version


def find_parent_number(session: Session, version: DatasetVersion) -> int | None:
    """Returns the number of the version that `version` was made from, or None."""
    if version.parent_id is None:
        return None
    return session.scalar(
        select(DatasetVersion.version).where(DatasetVersion.id == version.parent_id)
    )
