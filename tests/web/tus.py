"""A bare client of the tus protocol for tests in the same process."""

import base64
import hashlib

PIECE = {"Content-Type": "application/offset+octet-stream"}
VERSION = {"Tus-Resumable": "1.0.0"}


def metadata(**values):
    """The header that tells `values` of a file."""
    return ",".join(
        f"{key} {base64.b64encode(value.encode()).decode()}"
        for key, value in values.items()
    )


def checksum(piece, algorithm="sha256"):
    """The header that says what `piece` hashes to."""
    digest = hashlib.new(algorithm, piece).digest()
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(digest).decode()}"}


class Tus:
    """Speaks the protocol with an API client.

    Args:
        api: Called with method, path and headers.
    """

    def __init__(self, api):
        self.api = api

    def ask(self, method, path, headers=None, **more):
        """Sends one request of the protocol."""
        return self.api(method, path, headers={**VERSION, **(headers or {})}, **more)

    def create(self, length=None, filename="cells.zip", **headers):
        """Makes an upload and returns the answer."""
        told = {"Upload-Metadata": metadata(filename=filename)}
        if length is not None:
            told["Upload-Length"] = str(length)
        return self.ask("POST", "/uploads", {**told, **headers})

    def append(self, path, offset, piece, headers=None):
        """Sends a piece and returns the answer."""
        told = {**PIECE, "Upload-Offset": str(offset), **(headers or {})}
        return self.ask("PATCH", path, told, data=piece)

    def send(self, content, filename="cells.zip"):
        """Uploads `content` whole; returns the id."""
        path = place(self.create(len(content), filename))
        assert self.append(path, 0, content).status_code == 204
        return path.rsplit("/", 1)[-1]

    def offset(self, path):
        """Where the upload is."""
        return int(self.ask("HEAD", path).headers["Upload-Offset"])


def place(answer):
    """Where a new upload lies, as an API client asks for it."""
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"].removeprefix("/api/v1")
