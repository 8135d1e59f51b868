"""The registry: names, and the versions published under them.

A version is published by `attempt_store.complete_train` alone. Deleting one empties
its files and keeps its row, so a number is never given twice.
"""

from collections.abc import Collection

from sqlalchemy import and_, func, select, update
from sqlalchemy.orm import Session

from shared import audit_store
from shared.database import now_ms
from shared.deletion import DeletionPlan
from shared.errors import NotFoundError
from shared.pages import Page, read_page
from shared.sql_dialect import insert
from shared.tables import Checkpoint, Model, ModelVersion


def find_or_create_model(session: Session, name: str, owner_id: int) -> Model:
    """Returns the model called `name`, made for `owner_id` when there is none."""
    session.execute(
        insert(session, Model)
        .values(name=name, owner_id=owner_id, last_version=0, created_at=now_ms())
        .on_conflict_do_nothing(index_elements=["name"])
    )
    return get_model_by_name(session, name)


def get_model(session: Session, model_id: int) -> Model:
    """Returns a model by its number.

    Raises:
        NotFoundError: When there is none.
    """
    model = session.get(Model, model_id)
    if model is None:
        raise NotFoundError(f"There is no model {model_id}.", field="model")
    return model


def get_model_by_name(session: Session, name: str) -> Model:
    """Returns a model by its exact name.

    Raises:
        NotFoundError: When there is none.
    """
    model = session.scalar(select(Model).where(Model.name == name))
    if model is None:
        raise NotFoundError(f"There is no model called {name!r}.", field="model")
    return model


def list_models(session: Session, *, page: int = 1, page_size: int = 50) -> Page[Model]:
    """Returns one page of models that have published, the latest made first."""
    published = select(ModelVersion.model_id).where(ModelVersion.deleted_at.is_(None))
    query = select(Model).where(Model.id.in_(published)).order_by(Model.id.desc())
    return read_page(session, query, page, page_size)


def list_versions(session: Session, model_id: int) -> list[ModelVersion]:
    """Returns the versions of a model that were not deleted, newest first."""
    return list(
        session.scalars(
            select(ModelVersion)
            .where(ModelVersion.model_id == model_id, ModelVersion.deleted_at.is_(None))
            .order_by(ModelVersion.version.desc())
        )
    )


def latest_version(session: Session, name: str) -> ModelVersion | None:
    """Returns the newest version of the model called `name`, or None."""
    model = get_model_by_name(session, name)
    return latest_versions(session, [model.id]).get(model.id)


def latest_versions(
    session: Session, model_ids: Collection[int]
) -> dict[int, ModelVersion]:
    """Returns the newest version of each model that has one, by model."""
    newest = (
        select(ModelVersion.model_id, func.max(ModelVersion.version).label("version"))
        .where(ModelVersion.model_id.in_(model_ids), ModelVersion.deleted_at.is_(None))
        .group_by(ModelVersion.model_id)
        .subquery()
    )
    found = session.scalars(
        select(ModelVersion).join(
            newest,
            and_(
                ModelVersion.model_id == newest.c.model_id,
                ModelVersion.version == newest.c.version,
            ),
        )
    )
    return {row.model_id: row for row in found}


def count_versions(session: Session, model_ids: Collection[int]) -> dict[int, int]:
    """Returns how many versions that were not deleted each model has, by model."""
    counted = session.execute(
        select(ModelVersion.model_id, func.count())
        .where(ModelVersion.model_id.in_(model_ids), ModelVersion.deleted_at.is_(None))
        .group_by(ModelVersion.model_id)
    )
    return dict(counted.all())


def get_version(session: Session, name: str, version: int) -> ModelVersion:
    """Returns one version by its number.

    Raises:
        NotFoundError: When there is none, or it was deleted.
    """
    model = get_model_by_name(session, name)
    found = session.get(ModelVersion, (model.id, version))
    if found is None or found.deleted_at is not None:
        raise NotFoundError(
            f"Model {name!r} has no version {version}, or it was deleted.",
            field="version",
        )
    return found


def find_version_of_job(session: Session, job_id: int) -> ModelVersion | None:
    """Returns what a job published, or None when it was deleted or never was."""
    return find_versions_of_jobs(session, [job_id]).get(job_id)


def find_versions_of_jobs(
    session: Session, job_ids: Collection[int]
) -> dict[int, ModelVersion]:
    """Returns what each job published, by job; nothing for those that did not."""
    found = session.scalars(
        select(ModelVersion).where(
            ModelVersion.job_id.in_(job_ids), ModelVersion.deleted_at.is_(None)
        )
    )
    return {row.job_id: row for row in found if row.job_id is not None}


def deletion_plan(session: Session, name: str, version: int) -> DeletionPlan:
    """Returns what goes when a version is deleted.

    Raises:
        NotFoundError: When there is none.
    """
    row = get_version(session, name, version)
    files = row.files or {}
    mine = {row.artifact_sha: row.artifact_bytes} | {
        file["sha256"]: file["bytes"] for file in files.values()
    }
    alone = mine.keys() - _named_elsewhere(session, row)
    finals = _list_finals(session, row.job_id)
    return DeletionPlan(
        title=f"Version {version} of model {name!r}",
        goes=["Its SavedModel archive, model card, evaluation and predictions."],
        stays=["The job that made it. The number is never given again."],
        counts={"files": len(mine)},
        size_bytes=sum(mine[sha] for sha in alone) + sum(finals.values()),
        paths=sorted(f"artifacts/sha256/{sha[:2]}/{sha}" for sha in alone)
        + sorted(finals),
    )


def delete_version(
    session: Session, name: str, version: int, *, actor: str
) -> DeletionPlan:
    """Deletes a version's result; remove `plan.paths` after the commit.

    Returns:
        What went.

    Raises:
        NotFoundError: When there is none.
    """
    model = get_model_by_name(session, name)
    row = session.get(ModelVersion, (model.id, version), with_for_update=True)
    if row is not None and row.deleted_at and session.info.get("retrying"):
        return DeletionPlan(f"Version {version} of model {name!r}")  # done before
    plan = deletion_plan(session, name, version)
    assert row is not None, "the plan is refused where there is none"
    session.execute(
        update(ModelVersion)
        .where(ModelVersion.model_id == model.id, ModelVersion.version == version)
        .values(deleted_at=now_ms(), files={}, evaluation={})
    )
    # The attempt's own copy goes too; its row follows when the files are gone.
    session.execute(
        update(Checkpoint)
        .where(Checkpoint.job_id == row.job_id, Checkpoint.kind == "final")
        .values(status="deleting")
    )
    audit_store.record(
        session,
        actor,
        "model_version_deleted",
        "model",
        model.id,
        {"version": version, "size_bytes": plan.size_bytes},
    )
    return plan


def _list_finals(session: Session, job_id: int | None) -> dict[str, int]:
    """Folders in which a job's attempts left their result, with their bytes."""
    found = session.execute(
        select(Checkpoint.rel_path, Checkpoint.size_bytes).where(
            Checkpoint.job_id == job_id, Checkpoint.kind == "final"
        )
    )
    return dict(found.all())


def _named_elsewhere(session: Session, row: ModelVersion) -> set[str]:
    """Digests that other versions name: the same content is kept once."""
    named: set[str] = set()
    others = session.execute(
        select(ModelVersion.artifact_sha, ModelVersion.files).where(
            ModelVersion.deleted_at.is_(None),
            (ModelVersion.model_id != row.model_id)
            | (ModelVersion.version != row.version),
        )
    )
    for artifact_sha, files in others:
        named.add(artifact_sha)
        named.update(file["sha256"] for file in (files or {}).values())
    return named
