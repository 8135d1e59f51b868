"""Takes the body of one request into an upload, piece by piece; memory stays flat."""

import base64
import binascii
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from shared.errors import UserError
from web.datasets.upload import (
    CHUNK_BYTES,
    LOOK_BYTES,
    DiskFullError,
    Readable,
    require_reserve,
    too_large,
)
from web.uploads import refusals, store
from web.uploads.store import Upload

ALGORITHMS = ("sha1", "sha256", "sha512", "md5")  # the protocol demands the first


@dataclass(frozen=True)
class Checksum:
    """What a piece must hash to."""

    algorithm: str
    digest: bytes


def parse_checksum(header: str | None) -> Checksum | None:
    """Reads `Upload-Checksum`: an algorithm and a digest in base64.

    Raises:
        UserError: When it is not one that can be checked.
    """
    if header is None:
        return None
    algorithm, _, encoded = header.strip().partition(" ")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if algorithm not in ALGORITHMS or not digest:
        raise UserError(
            f"`Upload-Checksum` must be one of {', '.join(ALGORITHMS)}, a blank and "
            f"the digest in base64. Received: {header[:100]!r}.",
            field="Upload-Checksum",
        )
    return Checksum(algorithm, digest)


def receive(
    upload: Upload,
    stream: Readable,
    offset: int,
    *,
    most: int,
    checksum: Checksum | None,
) -> int:
    """Appends what comes; returns the new offset.

    Without a checksum whatever has come stays, however the request ends. With one,
    nothing of the body counts until all of it has come and is right.

    Args:
        upload: To which.
        stream: The body.
        offset: Where it begins.
        most: Bytes that the whole upload may have.
        checksum: What the body must hash to.

    Raises:
        ConflictError: When the upload does not end at `offset`, or another request
            was faster.
        UploadTooLargeError: When more comes than may.
        ChecksumMismatchError: When the body is not what was sent.
        DiskFullError: When there is no room left.
    """
    store.require_offset(offset, store.measure(upload))
    pieces = _Pieces(upload, stream, most - offset, most)
    if checksum is None:
        return _append_all(upload, pieces.read(), offset)
    with tempfile.TemporaryFile(dir=upload.folder) as aside:
        _write_aside(pieces, aside, checksum)
        aside.seek(0)
        return _append_all(upload, iter(lambda: aside.read(CHUNK_BYTES), b""), offset)


@dataclass
class _Pieces:
    """Reads a body with an eye on its limits and on the disk."""

    upload: Upload
    stream: Readable
    room: int
    most: int
    since_look: int = 0

    def read(self) -> Iterator[bytes]:
        self._look()
        while piece := self._read_one():
            self.room -= len(piece)
            if self.room < 0:
                raise too_large(self.most)
            yield piece
            self.since_look += len(piece)
            if self.since_look >= LOOK_BYTES:
                self._look()

    def _read_one(self) -> bytes:
        try:
            return self.stream.read(CHUNK_BYTES)
        except TimeoutError as error:
            raise refusals.StalledError(
                "Nothing came for a long time, so the request was ended. What came "
                "before is kept."
            ) from error

    def _look(self) -> None:
        self.since_look = 0
        try:
            require_reserve(self.upload.folder)
        except DiskFullError as error:
            raise refusals.disk_full_while_growing() from error
        except FileNotFoundError:
            return  # removed meanwhile: appending will say so
        # A body that is checked at its end makes nothing grow until then.
        store.touch(self.upload)


def _append_all(upload: Upload, pieces: Iterator[bytes], offset: int) -> int:
    for piece in pieces:
        offset = store.append(upload, offset, piece)
    return store.measure(upload)


def _write_aside(pieces: _Pieces, aside: BinaryIO, checksum: Checksum) -> None:
    digest = hashlib.new(checksum.algorithm, usedforsecurity=False)
    for piece in pieces.read():
        digest.update(piece)
        _write(aside, piece)
    if digest.digest() != checksum.digest:
        raise refusals.ChecksumMismatchError(
            "The piece arrived damaged, so nothing of it was kept. Send it again.",
            field="Upload-Checksum",
        )


def _write(aside: BinaryIO, piece: bytes) -> None:
    try:
        aside.write(piece)
        aside.flush()
    except OSError as error:
        if error.errno in refusals.NO_ROOM:
            raise refusals.disk_full_while_growing() from error
        raise
