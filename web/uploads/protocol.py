"""The tus protocol 1.0 over HTTP: one function for each request.

The pages reach it with a session under `/uploads`, API clients with a token under
`/api/v1/uploads`; both call what is here. Specification:
https://tus.io/protocols/resumable-upload
"""

import base64
import binascii
from contextlib import suppress
from email.utils import formatdate
from typing import Any

from flask import Response, jsonify, request
from werkzeug.exceptions import MethodNotAllowed

from shared.errors import ConflictError, NotFoundError, UserError
from web.auth.datastore import Account
from web.datasets.upload import CHUNK_BYTES, too_large
from web.installation import Installation
from web.uploads import refusals, store
from web.uploads.receiving import ALGORITHMS, parse_checksum, receive
from web.uploads.store import Upload
from web.uploads.uses import open_upload, read_uses

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-defer-length,termination,checksum,expiration"
PIECE_TYPE = "application/offset+octet-stream"
MAX_METADATA_CHARACTERS = 4096
MAX_FINGERPRINT_CHARACTERS = 100
MAX_DIGITS = 18
# Silence after which a client is taken for gone. Without it a laptop that was closed
# would hold a thread of the server for ever.
STALL_SECONDS = 60.0
# A refusal is heard only by those whose body was read: a connection that is closed on
# unread bytes is reset. More than this is not worth reading.
DRAINED_BYTES = 16 << 20


def describe_server(here: Installation) -> Response:
    """Says which version, extensions and sizes there are."""
    answer = Response(status=204)
    answer.headers["Tus-Version"] = VERSION
    answer.headers["Tus-Extension"] = EXTENSIONS
    answer.headers["Tus-Max-Size"] = str(here.settings.max_upload_bytes)
    answer.headers["Tus-Checksum-Algorithm"] = ",".join(ALGORITHMS)
    return answer


def create(here: Installation, account: Account) -> Upload:
    """Makes the upload that the headers of this request describe."""
    require_version()
    header = request.headers.get("Upload-Metadata", "")
    metadata = _parse_metadata(header)
    fingerprint = metadata.get("fingerprint", "")[:MAX_FINGERPRINT_CHARACTERS]
    return store.create(
        here.storage,
        owner_id=account.id,
        filename=metadata.get("filename") or metadata.get("name") or "",
        length=_announced_length(),
        metadata=header,
        fingerprint=fingerprint or None,
        most=here.settings.max_upload_bytes,
    )


def answer_created(upload: Upload, address: str) -> Response:
    """Says where the new upload lies."""
    answer = Response(status=201)
    answer.headers["Location"] = address
    answer.headers["Upload-Offset"] = "0"
    _add_expiry(answer, upload)
    return answer


def show(here: Installation, account: Account, upload_id: str) -> Response:
    """Tells how far an upload is: in headers, and for GET also as JSON."""
    if request.method == "HEAD":
        require_version()
    upload = open_upload(here, account, upload_id)
    had_by = read_uses(here, account).let_go.get(upload.id)
    facts = describe(upload, had_by)
    answer = jsonify(facts)
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Upload-Offset"] = str(facts["offset"])
    if upload.info.length is None:
        answer.headers["Upload-Defer-Length"] = "1"
    else:
        answer.headers["Upload-Length"] = str(upload.info.length)
    if upload.info.metadata:
        answer.headers["Upload-Metadata"] = upload.info.metadata
    if had_by is None:
        _add_expiry(answer, upload)
    return answer


def append(here: Installation, account: Account, upload_id: str) -> Response:
    """Takes the body of this request into the upload."""
    require_version()
    _limit_silence()
    try:
        upload = store.open_upload(here.storage, account.id, upload_id)
        offset = _append(here, upload)
    except UserError:
        _drain()
        raise
    answer = Response(status=204)
    answer.headers["Upload-Offset"] = str(offset)
    _add_expiry(answer, upload)
    return answer


def terminate(here: Installation, account: Account, upload_id: str) -> Response:
    """Removes an upload that no job reads; one that failed loses it so."""
    require_version()
    upload = open_upload(here, account, upload_id)
    with store.hold(upload):
        job_id = read_uses(here, account).taken.get(upload.id)
        if job_id is not None:
            raise ConflictError(
                f"The upload belongs to job {job_id}, which reads it. Cancel the job "
                f"and delete its dataset instead."
            )
        store.remove(upload)
    return Response(status=204)


def override(here: Installation, account: Account, upload_id: str) -> Response:
    """Does what `X-HTTP-Method-Override` says, for clients that can only POST."""
    verbs = {"PATCH": append, "DELETE": terminate}
    method = request.headers.get("X-HTTP-Method-Override", "").upper()
    if method not in verbs:
        raise MethodNotAllowed(["GET", "HEAD", "PATCH", "DELETE"])
    return verbs[method](here, account, upload_id)


def list_open(here: Installation, account: Account) -> list[dict[str, Any]]:
    """Describes this user's uploads that belong to no job, the oldest first."""
    uses = read_uses(here, account)
    found = []
    for upload in store.list_of(here.storage, account.id, uses.let_go):
        if upload.id in uses.taken:
            continue
        with suppress(NotFoundError):  # removed since it was found
            found.append(describe(upload, uses.let_go.get(upload.id)))
    return found


def describe(upload: Upload, had_by: int | None) -> dict[str, Any]:
    """Returns the facts of an upload that its owner may see.

    Args:
        upload: That one.
        had_by: The job that had it, and failed or was cancelled.

    Raises:
        NotFoundError: When the upload has been removed.
    """
    expires_at = None if had_by else int(store.expires_at(upload) * 1000)
    return {
        "id": upload.id,
        "filename": upload.info.filename,
        "offset": store.measure(upload),
        "length": upload.info.length,
        "fingerprint": upload.info.fingerprint,
        "sha256": upload.info.sha256,
        "expires_at": expires_at,
        "had_by": had_by,
    }


def dress(answer: Response) -> Response:
    """Adds what every answer of the protocol carries."""
    answer.headers["Tus-Resumable"] = VERSION
    if answer.status_code == refusals.VersionError.status:
        answer.headers["Tus-Version"] = VERSION
    return answer


def require_version() -> None:
    """Returns when the client speaks our version of the protocol.

    Raises:
        VersionError: When it does not, or does not say.
    """
    spoken = request.headers.get("Tus-Resumable")
    if spoken != VERSION:
        raise refusals.VersionError(
            f"Uploads speak tus {VERSION}: send `Tus-Resumable: {VERSION}`. "
            f"Received: {(spoken or '')[:20]!r}.",
            field="Tus-Resumable",
        )


def _append(here: Installation, upload: Upload) -> int:
    if request.mimetype != PIECE_TYPE:
        raise refusals.ContentTypeError(
            f"Send the piece as {PIECE_TYPE}. Received: {request.mimetype[:100]!r}.",
            field="Content-Type",
        )
    offset = _number("Upload-Offset")
    if offset is None:
        raise UserError("`Upload-Offset` is missing.", field="Upload-Offset")
    checksum = parse_checksum(request.headers.get("Upload-Checksum"))
    most = here.settings.max_upload_bytes
    length = _number("Upload-Length")
    if length is not None:
        if length > most:
            raise too_large(most)
        upload = store.settle_length(upload, length)
    if upload.info.length is not None:
        most = min(most, upload.info.length)
    if offset + (request.content_length or 0) > most:
        raise too_large(most)
    return receive(upload, request.stream, offset, most=most, checksum=checksum)


def _announced_length() -> int | None:
    length, deferred = (
        _number("Upload-Length"),
        request.headers.get("Upload-Defer-Length"),
    )
    if deferred not in (None, "1") or (length is None) == (deferred is None):
        raise UserError(
            "Send either `Upload-Length` with the number of bytes or "
            "`Upload-Defer-Length: 1`.",
            field="Upload-Length",
        )
    return length


def _number(header: str) -> int | None:
    text = request.headers.get(header)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > MAX_DIGITS:
        raise UserError(
            f"`{header}` must be a number of bytes. Received: {text[:50]!r}.",
            field=header,
        )
    return int(text)


def _parse_metadata(header: str) -> dict[str, str]:
    """Reads `Upload-Metadata`: pairs of a key and a value in base64."""
    if len(header) > MAX_METADATA_CHARACTERS:
        raise UserError(
            f"`Upload-Metadata` may have {MAX_METADATA_CHARACTERS} characters.",
            field="Upload-Metadata",
        )
    found = {}
    for pair in header.split(",") if header.strip() else []:
        key, _, encoded = pair.strip().partition(" ")
        try:
            value = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise UserError(
                f"`Upload-Metadata` must be keys with values in base64. Received: "
                f"{pair[:100]!r}.",
                field="Upload-Metadata",
            ) from error
        found[key] = value
    return found


def _add_expiry(answer: Response, upload: Upload) -> None:
    answer.headers["Upload-Expires"] = formatdate(store.expires_at(upload), usegmt=True)


def _limit_silence() -> None:
    connection = request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(STALL_SECONDS)


def _drain() -> None:
    left = DRAINED_BYTES
    if (request.content_length or 0) > left:
        return
    try:
        while left > 0 and (piece := request.stream.read(CHUNK_BYTES)):
            left -= len(piece)
    except Exception:  # noqa: BLE001, S110 - the refusal is what matters
        pass
