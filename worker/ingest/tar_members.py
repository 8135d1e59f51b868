"""The members of a tar, plain or compressed, read in one pass from front to end."""

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker.ingest.limits import Basket, MemberFaultError
from worker.ingest.zip_members import (
    DAMAGED_REASON,
    LINK_REASON,
    PIECE_BYTES,
    SPECIAL_REASON,
    CutOffError,
    Member,
)

_BROKEN = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError)
# A header is 512 bytes; one with a long name or attributes takes a few kilobytes.
_MOST_HEADER_BYTES = 1024 * 1024


class NoTarError(Exception):
    """The bytes are no tar, nor a compressed one."""


def read_tar(path: Path, basket: Basket) -> Iterator[Member]:
    """Yields the members of a tar, their content in `basket`.

    Raises:
        NoTarError: The first bytes make no tar.
        CutOffError: After the last member that could be had, when the tar is cut off.
        MemberFaultError: The whole archive grows like a bomb.
    """
    packed_bytes = path.stat().st_size
    before = basket.size_bytes
    with path.open("rb") as stream:
        try:
            # Stream mode never seeks, so a compressed tar is unpacked once.
            archive = _BoundedTar.open(
                fileobj=stream, mode="r|*", encoding="utf-8", errors="surrogateescape"
            )
        except (*_BROKEN, OSError) as error:
            raise NoTarError from error
        while (entry := _next(archive)) is not None:
            yield _read_entry(archive, entry, basket)
            basket.check_ratio(basket.size_bytes - before, packed_bytes)


class _BoundedTar(tarfile.TarFile):
    """A tar whose headers cannot take all memory.

    A long name is a member of its own, which tarfile reads at once: one of ten
    gigabytes, packed into ten megabytes, would end the process.
    """

    def next(self) -> tarfile.TarInfo | None:
        """Reads the next header and nothing beyond what headers may have."""
        stream: Any = self.fileobj
        if not isinstance(stream, _Metered):
            stream = _Metered(stream)
            self.fileobj = stream  # type: ignore[assignment]
        stream.left = _MOST_HEADER_BYTES
        try:
            return super().next()
        finally:
            stream.left = None


class _Metered:
    """A stream that refuses to give more than is left, when that is said."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.left: int | None = None
        self.seek, self.tell, self.close = stream.seek, stream.tell, stream.close

    def read(self, size: int) -> bytes:
        if self.left is not None:
            self.left -= size
            if self.left < 0:
                raise tarfile.ReadError("a header is larger than any honest one")
        return self._stream.read(size)


def _next(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        entry = archive.next()
    except _BROKEN as error:
        raise CutOffError from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise CutOffError from error
    # tarfile remembers every member it has seen, which for a million files is a
    # gigabyte; nothing here looks back.
    archive.members = []  # type: ignore[attr-defined]
    return entry


def _read_entry(
    archive: tarfile.TarFile, entry: tarfile.TarInfo, basket: Basket
) -> Member:
    name = entry.name.encode("utf-8", "surrogateescape")
    member = Member(name, is_folder=entry.isdir())
    if member.is_folder:
        return member
    try:
        _refuse_special(entry)
        member.keep(_pieces(archive, entry), basket, None)
    except MemberFaultError as fault:
        member.fault = fault
    return member


def _refuse_special(entry: tarfile.TarInfo) -> None:
    if entry.issym() or entry.islnk():
        raise MemberFaultError("link", LINK_REASON)
    if not entry.isreg():
        raise MemberFaultError("special_file", SPECIAL_REASON)


def _pieces(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> Iterator[bytes]:
    try:
        stream = archive.extractfile(entry)
        while stream and (piece := stream.read(PIECE_BYTES)):
            yield piece
    except _BROKEN as error:
        raise MemberFaultError("damaged", DAMAGED_REASON) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise MemberFaultError("damaged", DAMAGED_REASON) from error
