"""Sending archives: whole or in ranges, with length, digest and a safe file name."""

import base64
import re

from flask import Response, send_file

from shared.artifacts import Storage
from shared.errors import NotFoundError
from web.models.view import VersionRow

KINDS = {
    ".zip": "application/zip",
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
}


def archive_name(model_name: str, version: int) -> str:
    """Returns the name under which an archive is saved: `flowers-3.zip`.

    Only letters, digits, dot, dash and underscore, so that no name of a model can
    hold anything that a file system or a header would take for something else.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", model_name).strip("._") or "model"
    return f"{plain}-{version}.zip"


def send_artifact(storage: Storage, sha: str, download_name: str) -> Response:
    """Answers with an immutable file; honours Range, If-Range and If-None-Match.

    Raises:
        NotFoundError: When the file is no longer on shared storage.
    """
    path = storage.artifact(sha)
    if not path.is_file():
        raise NotFoundError(
            "The file of this version is not on shared storage any more. Its row "
            "names it, so it was removed by hand or the storage is not mounted."
        )
    suffix = download_name[download_name.rfind(".") :]
    response = send_file(
        path,
        mimetype=KINDS.get(suffix, "application/octet-stream"),
        as_attachment=True,
        download_name=download_name,
        conditional=True,
        etag=sha,
    )
    # Kept by nobody in between, and asked for again: `latest` moves, versions go.
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Repr-Digest"] = f"sha-256=:{_as_base64(sha)}:"
    return response


def send_version(storage: Storage, row: VersionRow) -> Response:
    """Answers with the SavedModel archive of a version."""
    name = archive_name(row.name, row.version)
    return send_artifact(storage, row.artifact_sha, name)


def _as_base64(sha: str) -> str:
    return base64.b64encode(bytes.fromhex(sha)).decode()
