"""The members of a tar, plain or compressed, read in one pass from front to end."""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

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
_XZ_MAGICS = (b"\xfd7zXZ", b"\x5d\x00\x00\x80")
# Known to tarfile alone, by these names.
_HeaderError: type[Exception] = tarfile.HeaderError
_EndOfArchive: type[Exception] = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_LaterHeaderError: type[Exception] = tarfile.SubsequentHeaderError  # type: ignore[attr-defined]


class NoTarError(Exception):
    """The bytes are no tar, nor a compressed one."""


def read_tar(path: Path, basket: Basket) -> Iterator[tuple[int, Member]]:
    """Yields the members of a tar, their content in `basket`.

    Yields:
        (bytes of the file read so far, member).

    Raises:
        NoTarError: The first bytes make no tar.
        CutOffError: After the last member that could be had, when the tar is cut off
            or damaged.
        MemberFaultError: The whole archive grows like a bomb.
        OSError: It cannot be read from the disk.
    """
    packed_bytes = path.stat().st_size
    before = basket.saved_bytes
    with path.open("rb") as stream:
        unpacked = _Rationed(
            _unpack(stream), lambda size: basket.check_ratio(size, packed_bytes)
        )
        archive = _open(unpacked)
        while (entry := _next(archive)) is not None:
            basket.count_file()
            member = _read_entry(archive, entry, basket)
            yield stream.tell(), member
            # A sparse file has holes that no byte of the archive stands for.
            basket.check_ratio(basket.saved_bytes - before, packed_bytes)


def _unpack(stream: BinaryIO) -> Any:
    """The bytes of the tar itself.

    These unpack no more at once than they are asked for, unlike tarfile's own: ten
    kilobytes of bzip2 may hold ten gigabytes. They also go on in a file of several
    parts, as programs write them that pack with all cores.
    """
    head = stream.read(10)
    stream.seek(0)
    if head.startswith(b"\x1f\x8b\x08"):
        return gzip.GzipFile(fileobj=stream)
    if head.startswith(b"BZh") and head.endswith(b"1AY&SY"):
        return bz2.BZ2File(stream)
    if head.startswith(_XZ_MAGICS):
        return lzma.LZMAFile(stream)
    return stream


def _open(unpacked: "_Rationed") -> tarfile.TarFile:
    try:
        # Stream mode never seeks, so a compressed tar is unpacked once.
        return _BoundedTar.open(
            fileobj=cast("BinaryIO", unpacked),
            mode="r|",
            encoding="utf-8",
            errors="surrogateescape",
            tarinfo=_StrictEntry,
        )
    except _BROKEN as error:
        raise NoTarError from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise NoTarError from error


class _Rationed:
    """What comes out of an archive, also of what is skipped, until it is too much."""

    def __init__(self, stream: Any, check: Callable[[int], None]) -> None:
        self._stream = stream
        self._check = check
        self._given = 0

    def read(self, size: int) -> bytes:
        # What comes before damage is given before that is met.
        piece = self._stream.read1(size)
        self._given += len(piece)
        self._check(self._given)
        return piece


class _StrictEntry(tarfile.TarInfo):
    """A header that is damaged is an error, wherever it stands.

    tarfile takes one that cannot be read for the end of the archive, unless it is the
    first: one wrong bit would silently cost all members from there on. The end is a
    block of zeros.
    """

    __slots__ = ()

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        """Reads the next header, and those that belong to it."""
        try:
            return super().fromtarfile(tarfile)
        except _HeaderError as error:
            if tarfile.offset == 0 or isinstance(error, _EndOfArchive):
                raise
            raise _LaterHeaderError(str(error)) from error


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
        self.tell, self.close = stream.tell, stream.close

    def read(self, size: int) -> bytes:
        if self.left is not None:
            self.left -= size
            if self.left < 0:
                raise tarfile.ReadError("a header is larger than any honest one")
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        """Skips forward, until the end at most: a header may claim any size."""
        left = position - self.tell()
        if left < 0:
            raise tarfile.StreamError("what was skipped is gone")
        while left and (piece := self._stream.read(min(left, PIECE_BYTES))):
            left -= len(piece)
        return self.tell()


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
        if fault.code == "bomb":  # the archive is one, and not this member
            raise
        member.fault = fault.facts
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
