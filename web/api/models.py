"""`/models` of the API: the use cases of the pages, as JSON."""

from typing import Any
from urllib.parse import quote

from flask import Response

from shared import model_store
from web.api.blueprint import blueprint, current_account
from web.api.problems import ARCHIVE, NOT_MODIFIED, describe
from web.api.schemas import (
    Deleted,
    ModelDetail,
    ModelList,
    ModelPath,
    PageQuery,
    VersionDetail,
    VersionPath,
)
from web.deleting import describe_deleted
from web.installation import get_database, get_installation
from web.models import view
from web.models.archive import send_version
from web.models.delete import delete_version


@blueprint.get("/models", responses={"200": ModelList})
def list_models(query: PageQuery) -> dict[str, Any]:
    """Lists models with their newest versions."""
    with get_database().reading() as session:
        found = model_store.list_models(
            session, page=query.page, page_size=query.page_size
        )
        rows = view.list_rows(session, found.items)
    items = [_describe_model(row) for row in rows]
    return ModelList.model_validate(
        {
            "items": items,
            "total": found.total,
            "page": found.page,
            "page_size": found.page_size,
        }
    ).model_dump(mode="json")


@blueprint.get("/models/<name>", responses={"200": ModelDetail})
def get_model(path: ModelPath) -> dict[str, Any]:
    """One model and all its versions, the newest first."""
    with get_database().reading() as session:
        model = model_store.get_model_by_name(session, path.name)
        row = view.list_rows(session, [model])[0]
        versions = view.list_versions(session, model)
    return ModelDetail.model_validate(
        {
            **_describe_model(row),
            "all_versions": [_describe_version(v) for v in versions],
        }
    ).model_dump(mode="json")


@blueprint.get("/models/<name>/versions/<version>", responses={"200": VersionDetail})
def get_version(path: VersionPath) -> dict[str, Any]:
    """One version with its evaluation; `latest` is the newest."""
    with get_database().reading() as session:
        row = view.find_row(session, path.name, path.version)
    return VersionDetail.model_validate(
        {**_describe_version(row), "evaluation": row.evaluation, "files": row.files}
    ).model_dump(mode="json")


@blueprint.get(
    "/models/<name>/versions/<version>/archive",
    responses={
        "200": ARCHIVE,
        "206": ARCHIVE,
        "304": NOT_MODIFIED,
        **describe(416),
    },
)
def get_archive(path: VersionPath) -> Response:
    """The SavedModel as a zip; ranges and If-None-Match are honoured."""
    here = get_installation()
    with here.database.reading() as session:
        row = view.find_row(session, path.name, path.version)
    return send_version(here.storage, row)


@blueprint.delete("/models/<name>/versions/<version>", responses={"200": Deleted})
def delete_model_version(path: VersionPath) -> dict[str, Any]:
    """Deletes a version's files; its number is never given again."""
    plan = delete_version(
        get_installation(), current_account(), path.name, path.version
    )
    return describe_deleted(plan)


def _describe_model(row: view.ModelRow) -> dict[str, Any]:
    latest = _describe_version(row.latest) if row.latest else None
    return {
        "name": row.name,
        "owner": row.owner,
        "versions": row.versions,
        "latest": latest,
    }


def _describe_version(row: view.VersionRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "version": row.version,
        "job_id": row.job_id,
        "accuracy": row.accuracy,
        "interval": row.interval,
        "sha256": row.artifact_sha,
        "size_bytes": row.artifact_bytes,
        "created_at": row.created_at,
        "archive": f"/api/v1/models/{quote(row.name)}/versions/{row.version}/archive",
    }
