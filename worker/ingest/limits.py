"""How much one upload may cost, and the counter that holds it to that.

Sizes are counted from the bytes that really come out: what an archive declares about
itself is a claim of whoever made it.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from shared.errors import UserError
from shared.progress_words import say_size
from worker.ingest.disk import Reserve, writing

_FILES_PER_FOLDER = 1000
MIB = 2**20
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one ingest; every one ends in a sentence, never in a full disk.

    Args:
        max_files: Most files over all sources; folders and links count, too, and the
            lines of label tables by themselves.
        max_unpacked_bytes: Most bytes over all sources, unpacked.
        max_file_bytes: Largest single file, bytes.
        max_ratio: Largest growth of a file or archive in unpacking, checked beyond
            16 MiB. Deflate reaches 1,032; real pictures stay below 10, and blank
            bitmaps are the only honest ones above 200.
        max_pixels: Largest picture, pixels. TensorFlow's decoders, which training
            and the exported model use, end at 2**29 bytes: 178 million pixels of a
            JPEG and 134 million of a PNG. Phone cameras of 200 million save 50
            million unless told otherwise.
        image_seconds: Time one picture may take to be proved.
        image_memory_bytes: Memory a proving process may take beyond what it has at
            its start.
    """

    max_files: int = 2_000_000
    max_unpacked_bytes: int = 256 * GIB
    max_file_bytes: int = 1 * GIB
    max_ratio: int = 200
    max_pixels: int = 178_000_000
    image_seconds: float = 60
    image_memory_bytes: int = 4 * GIB


def parse_limits(wishes: dict[str, Any]) -> Limits:
    """Makes limits from SPEC.json's `limits`.

    Raises:
        UserError: Naming a limit that does not exist or is not above 0.
    """
    known = {field.name for field in fields(Limits)}
    for name, value in wishes.items():
        if name not in known:
            raise UserError(f"`limits.{name}` is not a limit of ingest.", field=name)
        if not isinstance(value, int | float) or value <= 0:
            raise UserError(
                f"`limits.{name}` must be above 0. Received: {name}={value!r}.",
                field=name,
            )
    return Limits(**wishes)


class MemberFaultError(Exception):
    """One file of a source cannot be had; the others can.

    Args:
        code: Static word for programs.
        reason: Sentence for people.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason

    @property
    def facts(self) -> tuple[str, str]:
        """Code and reason: what is kept of it.

        The exception itself holds all that was at hand where it was raised. There may
        be a million faults, and mostly one reason.
        """
        return self.code, sys.intern(self.reason)


class Basket:
    """Writes files of an upload under names of ours and counts what they cost.

    No name from outside ever reaches the file system, so none can escape from the
    folder, collide or be too long.

    Args:
        folder: Where it writes; made when there is something to write.
        limits: What the upload may cost.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._place: Path | None = None
        self._reserve = Reserve(folder)
        self._saved = 0
        self.files = 0
        self.size_bytes = 0
        self.saved_bytes = 0

    def save(self, pieces: Iterable[bytes], *, packed_bytes: int | None) -> Path:
        """Writes one file, counted by `count_file` before, and returns where it lies.

        Args:
            pieces: Its content, unpacked piece by piece.
            packed_bytes: Its size in the archive; None when nobody knows.

        Raises:
            MemberFaultError: The file breaks a limit of single files, or `pieces`
                raised it; nothing of it stays on disk.
            UserError: The upload as a whole is too much.
            OSError: The disk is full, or `pieces` could not be read.
        """
        path = self._new_path()
        try:
            with _create(path) as stream:
                for piece in self._counted(pieces, packed_bytes):
                    with writing(path):
                        stream.write(piece)
        except MemberFaultError:
            path.unlink()
            raise
        return path

    def _new_path(self) -> Path:
        self._saved += 1
        place = self._folder / f"{self._saved // _FILES_PER_FOLDER:05d}"
        if place != self._place:
            with writing(place):
                place.mkdir(parents=True, exist_ok=True)
            self._place = place
        return place / f"{self._saved:08d}"

    def count_file(self, size_bytes: int = 0) -> None:
        """Counts one more file; raises `UserError` when it is one too many."""
        self.require_files(1)
        self.files += 1
        self.count_bytes(size_bytes)

    def require_files(self, count: int) -> None:
        """Raises `UserError` when so many more files and folders are too many."""
        if self.files + count > self._limits.max_files:
            raise UserError(
                f"The upload holds more than {self._limits.max_files:,} files and "
                "folders, the most that this installation takes in one dataset."
            )

    def require_room(self, size_bytes: int) -> None:
        """Returns when the disk has room for so much more.

        Raises:
            OSError: The disk would be full.
        """
        self._reserve.require(size_bytes)

    def count_bytes(self, count: int) -> None:
        """Counts so many more bytes that are written to the disk.

        Raises:
            UserError: They are too many.
            OSError: The disk is nearly full.
        """
        self._reserve.count(count)
        self.size_bytes += count
        if self.size_bytes > self._limits.max_unpacked_bytes:
            raise UserError(
                "Unpacked, the upload is larger than "
                f"{say_size(self._limits.max_unpacked_bytes)}, the most that this "
                "installation takes in one dataset."
            )

    def _counted(
        self, pieces: Iterable[bytes], packed_bytes: int | None
    ) -> Iterator[bytes]:
        size = 0
        for piece in pieces:
            size += len(piece)
            self.saved_bytes += len(piece)
            self.count_bytes(len(piece))
            self.check_size(size)
            if packed_bytes is not None:
                self.check_ratio(size, packed_bytes)
            yield piece

    def check_size(self, size: int) -> None:
        """Raises `MemberFaultError` when a file of `size` bytes is too large."""
        if size > self._limits.max_file_bytes:
            raise MemberFaultError(
                "too_large",
                f"It is larger than {say_size(self._limits.max_file_bytes)}, the "
                "most that this installation reads as one picture.",
            )

    def check_ratio(self, size: int, packed_bytes: int) -> None:
        """Raises `MemberFaultError` when unpacking grows like a bomb."""
        if size > 16 * MIB and size > self._limits.max_ratio * packed_bytes:
            raise MemberFaultError(
                "bomb",
                f"It grows more than {self._limits.max_ratio}-fold in unpacking, "
                "as no picture does.",
            )


@contextlib.contextmanager
def _create(path: Path) -> Iterator[BinaryIO]:
    """Yields a new file; what fails at its end is our own disk, as at its beginning."""
    with writing(path):
        stream = path.open("wb")
    try:
        yield stream
    finally:
        with writing(path):
            stream.close()
