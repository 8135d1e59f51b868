"""Sends bytes to the platform in pieces that can be continued: the tus protocol.

A piece stays in memory until the server has it, so that what is made on the way, like
the zip of a folder, can be sent again, too. After a break the server is asked how far
it is; nothing that it has told is ever lost, so that lies within the piece.
"""

import base64
import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from cli.http_client import HttpClient
from shared.errors import InternalError, RetryableError

VERSION = {"Tus-Resumable": "1.0.0"}
PIECE_TYPE = "application/offset+octet-stream"
LARGEST_BYTES = 8 << 20
SMALLEST_BYTES = 256 << 10  # of a piece while the connection breaks
LONGEST_WAIT_SECONDS = 30.0
# Without a single new byte for so long, the upload is given up; it can be continued.
PATIENCE_SECONDS = 600.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class Sending:
    """What is sent.

    Args:
        filename: How it is called.
        length: Its bytes; null when nobody knows before the end.
        fingerprint: By which it is known when the command is given again; null when
            it cannot be continued then.
        blocks: Its bytes from the start.
        note: Called with how many bytes the server has.
    """

    filename: str
    length: int | None
    fingerprint: str | None
    blocks: Iterator[bytes]
    note: Callable[[int], object]


@dataclass(frozen=True)
class Sent:
    """What has come to the server.

    Args:
        upload_id: Its id there.
        sha256: Of the bytes as they were read here.
    """

    upload_id: str
    sha256: str


def send(client: HttpClient, sending: Sending) -> Sent:
    """Sends everything, however often the connection breaks.

    Raises:
        RetryableError: When the server does not answer for a long time.
        UserError: When the server refuses what is sent.
    """
    upload_id, offset = _find(client, sending) or (_create(client, sending), 0)
    digest = hashlib.sha256()
    wire = _Wire(client, f"/uploads/{upload_id}", offset)
    read = 0
    for piece in _cut(sending.blocks):
        digest.update(piece)
        wire.send(piece, read, sending.note)
        read += len(piece)
    if sending.length is None:
        wire.settle(read)
    return Sent(upload_id, digest.hexdigest())


def _find(client: HttpClient, sending: Sending) -> tuple[str, int] | None:
    """The upload that an earlier command has begun, and how far it came."""
    if sending.fingerprint is None:
        return None
    for item in client.get("/uploads")["items"]:
        same = item["fingerprint"] == sending.fingerprint
        if same and item["length"] == sending.length:
            return item["id"], item["offset"]
    return None


def _create(client: HttpClient, sending: Sending) -> str:
    told = {"filename": sending.filename, "fingerprint": sending.fingerprint}
    headers = {
        **VERSION,
        "Upload-Metadata": ",".join(
            f"{key} {base64.b64encode(value.encode(errors='replace')).decode()}"
            for key, value in told.items()
            if value
        ),
    }
    if sending.length is None:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(sending.length)
    answer = insist(lambda: client.send("POST", "/uploads", headers))
    return answer.headers["Location"].rsplit("/", 1)[-1]


def _cut(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of one size, the last one aside."""
    waiting = bytearray()
    for block in blocks:
        waiting += block
        while len(waiting) >= LARGEST_BYTES:
            yield bytes(waiting[:LARGEST_BYTES])
            del waiting[:LARGEST_BYTES]
    if waiting:
        yield bytes(waiting)


class _Wire:
    """One upload as it grows.

    Args:
        client: Of the installation.
        path: Of the upload.
        offset: What the server has of it.
    """

    def __init__(self, client: HttpClient, path: str, offset: int) -> None:
        self._client = client
        self._path = path
        self._offset = offset
        self._size = LARGEST_BYTES
        self._waits = _Waits()

    def send(self, piece: bytes, start: int, note: Callable[[int], object]) -> None:
        """Returns when the server has all of `piece`, which begins at `start`."""
        while self._offset < start + len(piece):
            at = self._offset - start
            if at < 0:
                raise InternalError(
                    f"The server is at byte {self._offset} of an upload of which it "
                    f"had {start}. Give the command again."
                )
            self._advance(piece[at : at + self._size])
            note(self._offset)

    def settle(self, length: int) -> None:
        """Tells how long the upload is, now that it is known."""
        headers = {**self._headers(length), "Upload-Length": str(length)}
        insist(lambda: self._client.send("PATCH", self._path, headers))

    def _advance(self, part: bytes) -> None:
        """Sends `part` once; learns how much of it the server has, either way."""
        digest = base64.b64encode(hashlib.sha256(part).digest()).decode()
        checked = {"Upload-Checksum": f"sha256 {digest}"}
        headers = {**self._headers(self._offset), **checked}
        try:
            answer = self._client.send("PATCH", self._path, headers, part)
        except RetryableError as error:
            # Less is lost by the next break.
            self._size = max(SMALLEST_BYTES, self._size // 2)
            self._waits.wait(error)
            answer = insist(lambda: self._client.send("GET", self._path, VERSION))
        else:
            self._size = min(LARGEST_BYTES, self._size * 2)
        offset = int(answer.headers["Upload-Offset"])
        if offset > self._offset:
            self._waits = _Waits()
        self._offset = offset

    def _headers(self, offset: int) -> dict[str, str]:
        return {**VERSION, "Upload-Offset": str(offset), "Content-Type": PIECE_TYPE}


def insist(ask: Callable[[], _T]) -> _T:
    """Asks until the server answers.

    Raises:
        RetryableError: When it has not answered for a long time.
    """
    waits = _Waits()
    while True:
        try:
            return ask()
        except RetryableError as error:
            waits.wait(error)


class _Waits:
    """Ever longer waits, until patience ends."""

    def __init__(self) -> None:
        self._next_seconds = 0.5
        self._deadline = time.monotonic() + PATIENCE_SECONDS

    def wait(self, error: RetryableError) -> None:
        """Waits a while.

        Raises:
            RetryableError: `error`, when patience has ended.
        """
        if time.monotonic() > self._deadline:
            raise error
        time.sleep(self._next_seconds * random.uniform(0.75, 1.25))  # noqa: S311
        self._next_seconds = min(2 * self._next_seconds, LONGEST_WAIT_SECONDS)
