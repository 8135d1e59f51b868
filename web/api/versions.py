"""`/datasets/{id}/versions` and `/datasets/{id}/decisions` of the API."""

from typing import Any

from flask import Response, send_file

from shared import dataset_store
from web.api.blueprint import IdempotencyHeader, blueprint, current_account
from web.api.problems import describe
from web.api.schemas import DatasetPath
from web.api.version_schemas import (
    PICTURE,
    DatasetDecided,
    DatasetDiff,
    DatasetVersionOut,
    DatasetVersionPath,
    DecisionsRequest,
    VersionThumbnailPath,
)
from web.datasets.decision import Decision, Decisions
from web.datasets.decisions import decide
from web.datasets.left_over import tell_restored
from web.datasets.report import find_thumbnail
from web.datasets.versions import describe_version, read_diff
from web.installation import get_database, get_installation


@blueprint.get(
    "/datasets/<int:dataset_id>/versions/<int:version>",
    responses={"200": DatasetVersionOut},
)
def get_dataset_version(path: DatasetVersionPath) -> dict[str, Any]:
    """One version of a dataset, and what it changed in numbers and sentences."""
    with get_database().reading() as session:
        version = dataset_store.get_numbered_version(
            session, path.dataset_id, path.version
        )
        described = describe_version(session, version)
    return DatasetVersionOut.model_validate(described).model_dump(mode="json")


@blueprint.get(
    "/datasets/<int:dataset_id>/versions/<int:version>/diff",
    responses={"200": DatasetDiff, **describe(503)},
)
def get_dataset_diff(path: DatasetVersionPath) -> dict[str, Any]:
    """What a version changed against the one that it was made from.

    Listed are the first 10,000 pictures of each kind of change; `counts` are of all.
    """
    here = get_installation()
    with here.database.reading() as session:
        version = dataset_store.get_numbered_version(
            session, path.dataset_id, path.version
        )
    diff = read_diff(here.storage, version)
    return DatasetDiff.model_validate(diff).model_dump(mode="json")


@blueprint.get(
    "/datasets/<int:dataset_id>/versions/<int:version>/thumbnails/<name>",
    responses={"200": PICTURE},
)
def get_version_thumbnail(path: VersionThumbnailPath) -> Response:
    """A small picture of a dataset version; not every picture has one."""
    here = get_installation()
    with here.database.reading() as session:
        version = dataset_store.get_numbered_version(
            session, path.dataset_id, path.version
        )
    file = find_thumbnail(here.storage, version, path.name)
    return send_file(file, mimetype="image/jpeg")


@blueprint.post(
    "/datasets/<int:dataset_id>/decisions",
    responses={"202": DatasetDecided, "200": DatasetDecided},
)
def decide_about_dataset(
    path: DatasetPath, header: IdempotencyHeader, body: DecisionsRequest
) -> tuple[dict[str, Any], int]:
    """Decides about pictures; an ingest job makes the next version of it."""
    wanted = Decisions(
        dataset_id=path.dataset_id,
        version=body.version,
        decisions=[Decision(**one.model_dump()) for one in body.decisions],
        split=body.split.as_spec() if body.split else None,
        restore=body.restore,
        key=header.idempotency_key,
    )
    added = decide(get_installation(), current_account(), wanted)
    out = DatasetDecided(
        id=added.dataset_id,
        name=added.name,
        job_id=added.job_id,
        created=added.created,
        left=added.left,
        notes=tell_restored(added.left),
    )
    return out.model_dump(mode="json"), 202 if added.created else 200
