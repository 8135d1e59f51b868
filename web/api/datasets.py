"""`/datasets` of the API: the use cases of the pages, as JSON."""

from typing import Any

from flask import abort, request
from pydantic import ValidationError
from sqlalchemy.orm import Session
from werkzeug.exceptions import UnsupportedMediaType

from shared import dataset_store
from shared.tables import Dataset
from web.api.blueprint import IdempotencyHeader, blueprint, current_account
from web.api.problems import describe, refuse_invalid_request
from web.api.schemas import (
    DatasetAdded,
    DatasetDetail,
    DatasetList,
    DatasetPath,
    DatasetQuery,
    Deleted,
)
from web.api.upload_schemas import COMPONENTS, AddRequest, UploadQuery
from web.datasets import delete, view
from web.datasets.add import Added, Incoming, add_sources, add_upload
from web.datasets.report import read_report
from web.deleting import describe_deleted
from web.installation import get_database, get_installation

ARCHIVE_TYPES = frozenset(
    {
        "application/octet-stream",
        "application/zip",
        "application/x-zip-compressed",
        "application/x-tar",
        "application/gzip",
        "application/x-gzip",
    }
)
ADD_REQUEST = AddRequest.model_json_schema(ref_template=f"{COMPONENTS}{{model}}")
# `registration` puts it where the reference leads.
ADD_REQUEST.pop("$defs")
TWO_BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"}
            },
            "application/json": {"schema": ADD_REQUEST},
        },
    }
}


@blueprint.get("/datasets", responses={"200": DatasetList})
def list_datasets(query: DatasetQuery) -> dict[str, Any]:
    """Lists datasets, the newest first."""
    with get_database().reading() as session:
        found = dataset_store.list_datasets(
            session, page=query.page, page_size=query.page_size, search=query.search
        )
        items = _describe_all(session, found.items)
    return DatasetList.model_validate(
        {
            "items": items,
            "total": found.total,
            "page": found.page,
            "page_size": found.page_size,
        }
    ).model_dump(mode="json")


@blueprint.get("/datasets/<int:dataset_id>", responses={"200": DatasetDetail})
def get_dataset(path: DatasetPath) -> dict[str, Any]:
    """One dataset with the report of its newest version."""
    here = get_installation()
    with here.database.reading() as session:
        dataset = dataset_store.get_dataset(session, path.dataset_id)
        values = _describe_all(session, [dataset])[0]
        version = dataset_store.latest_version(session, dataset.id)
        ingest = view.find_ingest(session, dataset.id)
    report = read_report(here.storage, version) if version else None
    return DatasetDetail.model_validate(
        {**values, "report": report, "ingest_job": ingest.id if ingest else None}
    ).model_dump(mode="json")


@blueprint.post(
    "/datasets",
    responses={
        "201": DatasetAdded,
        "200": DatasetAdded,
        **describe(410, 411, 413, 423, 503, 507),
    },
    openapi_extensions=TWO_BODIES,
)
def add_dataset(query: UploadQuery, header: IdempotencyHeader) -> Any:
    """Adds a dataset, or a version of one: an archive as the raw body, or JSON.

    The archive is written to disk as it arrives; `filename` says which kind it is. A
    large one is better sent to `/uploads` first, in pieces. JSON names a finished
    upload; a folder, label table or archive under the folders that the server offers;
    or an address that it reads. `sources` names several that come in together. With
    `dataset_id` the pictures are added to that dataset, or replace its own.
    """
    key = header.idempotency_key
    if request.mimetype == "application/json":
        return _answer(_add_sources(key))
    if request.mimetype not in ARCHIVE_TYPES:
        raise UnsupportedMediaType(
            "Send the archive as application/octet-stream, or JSON naming a path."
        )
    here = get_installation()
    incoming = Incoming(
        stream=request.stream,
        filename=query.filename or "",
        length_bytes=request.content_length,
        target=query.target(key),
    )
    return _answer(add_upload(here, current_account(), incoming))


@blueprint.delete("/datasets/<int:dataset_id>", responses={"200": Deleted})
def delete_dataset(path: DatasetPath) -> dict[str, Any]:
    """Deletes a dataset with its versions and files."""
    plan = delete.delete_dataset(get_installation(), current_account(), path.dataset_id)
    return describe_deleted(plan)


def _add_sources(key: str | None) -> Added:
    try:
        asked = AddRequest.model_validate(request.get_json(silent=True))
    except ValidationError as error:
        abort(refuse_invalid_request(error))
    return add_sources(
        get_installation(), current_account(), asked.wanted(), asked.target(key)
    )


def _answer(added: Added) -> tuple[dict[str, Any], int]:
    out = DatasetAdded(
        id=added.dataset_id, name=added.name, job_id=added.job_id, created=added.created
    )
    return out.model_dump(mode="json"), 201 if added.created else 200


def _describe_all(session: Session, datasets: list[Dataset]) -> list[dict[str, Any]]:
    versions = dataset_store.latest_versions(session, [d.id for d in datasets])
    described = []
    for row in view.list_rows(session, datasets):
        version = versions.get(row.id)
        described.append(
            {
                **vars(row),
                "classes": version.report.get("classes") or [] if version else [],
                "fingerprint": version.fingerprint if version else None,
            }
        )
    return described
