"""The finished features of one view: one file, mapped by every job that reads them.

The file is called after the digest of what it holds, and `DONE.json` names it. Neither
is ever replaced or removed while its folder stays, because others have it mapped; the
first that is published is kept. A file that is damaged is set aside under another name.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shared import feature_cache, file_locks
from shared.durable_files import publish_file
from shared.file_locks import FileLock
from worker import events

DTYPE = np.dtype("<f4")

_DONE = "DONE.json"
# Rows that are hashed at once where they lie side by side: bounds the memory.
_MOST_ROWS = 256


class HeldArray(np.memmap):
    """A mapped array whose cache entry is not removed while it lives.

    `digest` is the SHA-256 of its rows and of which they are: equal features have equal
    ones, whenever and wherever they were computed.
    """

    holder: FileLock | None = None
    digest: str = ""


class FeatureArray:
    """The file in the folder of one view.

    Args:
        folder: The view's folder.
        total_rows: Rows of the array.
        rows: The rows that are computed, rising; the others stay zero and take no
            space on disk.
        origin: What computes them, as JSON values; kept with the array.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total_rows: int,
        rows: np.ndarray,
        origin: dict[str, Any],
    ) -> None:
        self._folder = folder
        self._total_rows = total_rows
        self._rows = rows
        self._origin = origin

    @property
    def is_done(self) -> bool:
        """Whether a finished array is there; `find` checks it."""
        return (self._folder / _DONE).exists()

    def find(self) -> HeldArray | None:
        """Returns the finished array, read from disk as needed, or None.

        One that does not match its digest is set aside and counts as unfinished.

        Shapes:
            result: (total_rows, feature_size) float32, read-only.

        Raises:
            OSError: The disk cannot be read.
        """
        try:
            done = (self._folder / _DONE).read_bytes()
        except OSError as error:
            if file_locks.is_gone(error):
                return None
            raise
        digest = _read_digest(done)
        if digest is None:
            self._forget("damaged index")
            return None
        return self._open(digest, is_checked=False)

    def write(self, blocks: Iterable[np.ndarray]) -> HeldArray | None:
        """Makes the array of all `blocks` durable; returns it as `find` does.

        Ordinary writes: one that finds the disk full is an error, where a page of a
        mapped file would end the process.

        Shapes:
            blocks: (some rows, feature_size) float32 each, all rows in their order.

        Raises:
            OSError: The disk is full, or the folder was deleted.
        """
        part = self._folder / f"features.{secrets.token_hex(8)}.part"
        try:
            digest = self._write_part(part, blocks)
            is_ours = publish_file(part, self._path(digest))
            part.write_text(json.dumps({"sha256": digest, "origin": self._origin}))
            is_ours &= publish_file(part, self._folder / _DONE)
        finally:
            part.unlink(missing_ok=True)
        return self._open(digest, is_checked=True) if is_ours else self.find()

    def _write_part(self, part: Path, blocks: Iterable[np.ndarray]) -> str:
        digest, at = None, 0
        with part.open("xb", buffering=0) as stream:
            for block in blocks:
                data = np.ascontiguousarray(block, DTYPE)
                row_bytes = data[0].nbytes
                if digest is None:
                    stream.truncate(self._total_rows * row_bytes)
                    digest = self._begin_digest(data.shape[1])
                rows = self._rows[at : at + len(data)]
                at += len(data)
                for start, stop in _list_runs(rows):
                    offset = int(rows[start]) * row_bytes
                    _write_whole(stream.fileno(), data[start:stop], offset)
                digest.update(data)
        if digest is None:
            raise ValueError("an array needs at least one row")
        return digest.hexdigest()

    def _open(self, digest: str, *, is_checked: bool) -> HeldArray | None:
        """Maps the array and holds its entry; None when there is none to be had."""
        # Held first and mapped after: what is mapped stays.
        holder = feature_cache.hold(self._folder)
        if holder is None:
            return None
        try:
            stream = self._path(digest).open("rb")
        except OSError as error:
            holder.close()
            if not file_locks.is_gone(error):
                raise
            self._forget("missing file")
            return None
        with stream:
            feature_size = self._find_feature_size(stream)
            if not is_checked and self._hash(stream, feature_size) != digest:
                holder.close()
                self._set_aside(stream, digest)
                return None
            shape = self._total_rows, feature_size
            array: Any = HeldArray(stream, DTYPE, "r", shape=shape)
        array.holder, array.digest = holder, digest
        return array

    def _find_feature_size(self, stream: BinaryIO) -> int:
        """How long a row is, the network knows and the file tells.

        Nobody builds the one to read the other. 0 when the file is no such array.
        """
        row_bytes, rest = divmod(os.fstat(stream.fileno()).st_size, self._total_rows)
        feature_size, odd = divmod(row_bytes, DTYPE.itemsize)
        return 0 if rest or odd else feature_size

    def _hash(self, stream: BinaryIO, feature_size: int) -> str:
        digest = self._begin_digest(feature_size)
        row_bytes = feature_size * DTYPE.itemsize
        for start, stop in _list_runs(self._rows):
            offset = int(self._rows[start]) * row_bytes
            digest.update(os.pread(stream.fileno(), (stop - start) * row_bytes, offset))
        return digest.hexdigest()

    def _begin_digest(self, feature_size: int) -> Any:
        """Equal bytes in other rows are other features."""
        digest = hashlib.sha256(f"{self._total_rows} x {feature_size} of ".encode())
        digest.update(self._rows.astype("<i8").tobytes())
        return digest

    def _set_aside(self, stream: BinaryIO, digest: str) -> None:
        """Makes room for a sound file; who has mapped the damaged one keeps it."""
        if not file_locks.lies_at(stream, self._path(digest)):
            return  # another process was here, and what lies there now may be sound
        with contextlib.suppress(FileNotFoundError):
            self._path(digest).rename(
                self._folder / f"damaged-{secrets.token_hex(8)}.f32"
            )
        self._forget("damaged file")

    def _forget(self, why: str) -> None:
        events.note(
            "warning",
            f"Cached features are computed again because of a {why} in {self._folder}.",
        )
        (self._folder / _DONE).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / f"features-{digest}.f32"


def list_origins(features: Path, subject: str) -> Iterator[Any]:
    """Yields what computed each finished view of `subject`.

    Args:
        features: Folder of the whole cache.
        subject: What the view is of; a folder's name begins with it.

    Raises:
        OSError: The disk cannot be read.
    """
    for folder in sorted(features.glob(f"{subject}-*")):
        try:
            facts = json.loads((folder / _DONE).read_bytes())
            yield facts["origin"]
        except (ValueError, KeyError, TypeError):
            continue  # damaged: whoever computes it again finds that out and says so
        except OSError as error:
            if not file_locks.is_gone(error):  # unfinished, or swept away just now
                raise


def _read_digest(done: bytes) -> str | None:
    try:
        digest = json.loads(done)["sha256"]
        is_one = len(bytes.fromhex(digest)) == hashlib.sha256().digest_size
    except (ValueError, KeyError, TypeError):
        return None
    return digest if is_one else None


def _list_runs(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields the (start, stop) of the stretches of `rows` that lie side by side."""
    gaps = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = [0, *gaps.tolist(), len(rows)]
    for start, stop in itertools.pairwise(edges):
        for at in range(start, stop, _MOST_ROWS):
            yield at, min(at + _MOST_ROWS, stop)


def _write_whole(file: int, data: np.ndarray, offset: int) -> None:
    left = memoryview(data.view(np.uint8).reshape(-1).data)
    while left:
        written = os.pwrite(file, left, offset)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left, offset = left[written:], offset + written
