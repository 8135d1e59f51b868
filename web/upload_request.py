"""How request bodies come in: never whole in memory, never through /tmp.

A form with files (the way without script) is parsed straight into temporary files on
shared storage, beside the folder they end in; /tmp may itself be memory.
"""

import tempfile
from typing import IO, Any

from flask import Request
from flask_login import current_user

from web.installation import get_installation

FORM_UPLOADS = frozenset({"datasets.upload_form", "uploads.append", "uploads.override"})
API_UPLOADS = frozenset({"api.add_dataset", "api.append_upload", "api.override_upload"})


class UploadRequest(Request):
    """A request whose file parts are written to shared storage as they arrive."""

    @property
    def max_content_length(self) -> int | None:
        """Most bytes of a body: few for forms, many where archives are taken.

        Looking for a form token reads the body before any view is asked, so only
        those who are signed in may make the server read a long one. The API looks at
        its token before it reads anything.
        """
        if self.endpoint in API_UPLOADS or (
            self.endpoint in FORM_UPLOADS and current_user.is_authenticated
        ):
            return get_installation().settings.max_upload_bytes
        return super().max_content_length

    @max_content_length.setter
    def max_content_length(self, value: int | None) -> None:
        Request.max_content_length.fset(self, value)  # type: ignore[attr-defined]

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
