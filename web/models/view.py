"""What pages and API show of models: rows copied out of the database."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared import model_store, user_store
from shared.errors import NotFoundError
from shared.tables import Model, ModelVersion
from web.row_numbers import read_number

LATEST = "latest"
PAGE_SIZE = 50


@dataclass(frozen=True)
class VersionRow:
    """A model version; its owner is its model's."""

    name: str
    version: int
    owner_id: int
    job_id: int | None
    accuracy: float | None
    interval: list[float] | None
    artifact_sha: str
    artifact_bytes: int
    files: dict[str, Any]
    evaluation: dict[str, Any]
    created_at: int


@dataclass(frozen=True)
class ModelRow:
    """A model and its newest version."""

    name: str
    owner_id: int
    owner: str
    versions: int
    latest: VersionRow | None


def list_rows(session: Session, models: list[Model]) -> list[ModelRow]:
    """Returns the rows of `models`, each with its newest version."""
    numbers = [model.id for model in models]
    owners = user_store.find_emails(session, {model.owner_id for model in models})
    newest = model_store.latest_versions(session, numbers)
    counts = model_store.count_versions(session, numbers)
    return [
        ModelRow(
            name=model.name,
            owner_id=model.owner_id,
            owner=owners.get(model.owner_id, ""),
            versions=counts.get(model.id, 0),
            latest=make_version(model, newest[model.id])
            if model.id in newest
            else None,
        )
        for model in models
    ]


def list_versions(session: Session, model: Model) -> list[VersionRow]:
    """Returns the versions of a model that were not deleted, newest first."""
    return [
        make_version(model, version)
        for version in model_store.list_versions(session, model.id)
    ]


def find_row(session: Session, name: str, version: str) -> VersionRow:
    """Returns a version by its number or `latest`.

    Raises:
        NotFoundError: When there is none, or it was deleted.
    """
    model = model_store.get_model_by_name(session, name)
    if version == LATEST:
        found = model_store.latest_version(session, name)
        if found is None:
            raise NotFoundError(f"Model {name!r} has no version.")
    elif (number := read_number(version)) is not None:
        found = model_store.get_version(session, name, number)
    else:
        raise NotFoundError(
            f"A version is a number or `latest`. Received: {version[:40]!r}."
        )
    return make_version(model, found)


def make_version(model: Model, version: ModelVersion) -> VersionRow:
    """Copies a version."""
    evaluation = version.evaluation or {}
    return VersionRow(
        name=model.name,
        version=version.version,
        owner_id=model.owner_id,
        job_id=version.job_id,
        accuracy=evaluation.get("accuracy"),
        interval=evaluation.get("interval"),
        artifact_sha=version.artifact_sha,
        artifact_bytes=version.artifact_bytes,
        files=version.files or {},
        evaluation=evaluation,
        created_at=version.created_at,
    )
