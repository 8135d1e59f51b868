"""How request bodies come in: never whole in memory, never through /tmp.

A form with files (the way without script) is parsed straight into temporary files on
shared storage, beside the folder they end in; /tmp may itself be memory.
"""

import tempfile
from typing import IO, Any

from flask import Request

from web.installation import get_installation


class UploadRequest(Request):
    """A request whose file parts are written to shared storage as they arrive."""

    def _get_file_stream(
        self,
        total_content_length: int | None,  # noqa: ARG002 - werkzeug's signature
        content_type: str | None,  # noqa: ARG002
        filename: str | None = None,  # noqa: ARG002
        content_length: int | None = None,  # noqa: ARG002
    ) -> IO[Any]:
        uploads = get_installation().storage.root / "uploads"
        uploads.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=uploads, prefix=".form-")
