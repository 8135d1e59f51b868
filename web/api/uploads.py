"""`/uploads` of the API: the tus protocol with a bearer token."""

from typing import Any

from flask import Response, request, url_for
from pydantic import BaseModel, Field

from web.api.blueprint import blueprint, current_account
from web.api.problems import describe
from web.api.upload_schemas import UploadList, UploadOut, UploadPath
from web.installation import get_installation
from web.uploads import protocol

ENDPOINTS = frozenset(
    f"api.{name}"
    for name in (
        "upload_options", "list_uploads", "create_upload", "get_upload",
        "append_upload", "delete_upload", "override_upload",
    )
)  # fmt: skip
DONE = {"description": "Done; the headers of tus 1.0 tell the rest."}
PIECE = {
    "requestBody": {
        "required": True,
        "content": {
            protocol.PIECE_TYPE: {"schema": {"type": "string", "format": "binary"}}
        },
    }
}


class TusHeader(BaseModel):
    """What every request of the protocol carries."""

    tus_resumable: str | None = Field(
        default=None, alias="Tus-Resumable", description="1.0.0, always needed."
    )


class CreateHeader(TusHeader):
    """What is known of the file."""

    upload_length: str | None = Field(
        default=None, alias="Upload-Length", description="Its size, bytes."
    )
    upload_defer_length: str | None = Field(
        default=None,
        alias="Upload-Defer-Length",
        description="1 when the size is told with a later piece.",
    )
    upload_metadata: str | None = Field(
        default=None,
        alias="Upload-Metadata",
        description="`filename` (needed) and `fingerprint`, in base64.",
    )


class PieceHeader(TusHeader):
    """Where the piece belongs."""

    upload_offset: str | None = Field(
        default=None,
        alias="Upload-Offset",
        description="Where it begins, bytes: what HEAD tells.",
    )
    upload_length: str | None = Field(
        default=None, alias="Upload-Length", description="When it was deferred."
    )
    upload_checksum: str | None = Field(
        default=None,
        alias="Upload-Checksum",
        description="Of the piece: `sha256 ` and the digest in base64.",
    )


@blueprint.after_request
def _dress(answer: Response) -> Response:
    return protocol.dress(answer) if request.endpoint in ENDPOINTS else answer


def upload_options() -> Response:
    """What the server can do."""
    return protocol.describe_server(get_installation())


# First: every other rule of this address answers OPTIONS, too.
blueprint.add_url_rule(
    "/uploads",
    "upload_options",
    upload_options,
    methods=["OPTIONS"],
    provide_automatic_options=False,
)


@blueprint.get("/uploads", responses={"200": UploadList})
def list_uploads() -> dict[str, Any]:
    """Lists your uploads that are not part of a dataset, the oldest first.

    Among them are those of jobs that failed or were cancelled: `had_by`.
    """
    items = protocol.list_open(get_installation(), current_account())
    return UploadList.model_validate({"items": items}).model_dump(mode="json")


@blueprint.post("/uploads", responses={"201": DONE, **describe(412, 413, 507)})
def create_upload(header: CreateHeader) -> Response:
    """Makes an upload (tus 1.0); `Location` says where its pieces go."""
    del header
    upload = protocol.create(get_installation(), current_account())
    address = url_for("api.get_upload", upload_id=upload.id)
    return protocol.answer_created(upload, address)


@blueprint.get("/uploads/<upload_id>", responses={"200": UploadOut, **describe(410)})
def get_upload(path: UploadPath) -> Response:
    """How far an upload is; HEAD tells it in headers alone."""
    return protocol.show(get_installation(), current_account(), path.upload_id)


@blueprint.patch(
    "/uploads/<upload_id>",
    responses={
        "204": DONE,
        **describe(408, 410, 412, 413, 415, 423, 460, 507),
    },
    openapi_extensions=PIECE,
)
def append_upload(path: UploadPath, header: PieceHeader) -> Response:
    """Appends a piece (tus 1.0); what has come stays when the connection breaks."""
    del header
    return protocol.append(get_installation(), current_account(), path.upload_id)


@blueprint.delete(
    "/uploads/<upload_id>", responses={"204": DONE, **describe(410, 412, 423)}
)
def delete_upload(path: UploadPath, header: TusHeader) -> Response:
    """Removes an upload that no dataset needs (tus 1.0)."""
    del header
    return protocol.terminate(get_installation(), current_account(), path.upload_id)


@blueprint.post("/uploads/<upload_id>", doc_ui=False)
def override_upload(path: UploadPath) -> Response:
    """Does what `X-HTTP-Method-Override` says."""
    return protocol.override(get_installation(), current_account(), path.upload_id)
