"""The members of a zip, whole or cut off, one after another.

A whole zip is read by its directory at the end. One without it (an upload that broke
off) is walked from the front: every member has a header of its own, and what lies
before the cut is as good as ever.
"""

import contextlib
import hashlib
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shared.progress_words import say_size
from worker.ingest.disk import is_unreadable, unreadable_reason
from worker.ingest.found import FoundFile
from worker.ingest.limits import MIB, Basket, MemberFaultError

PIECE_BYTES = 256 * 1024
_PACKED_BYTES = 16 * 1024  # unpacks to 16 MiB at the very most
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_LOCAL_MAGIC = b"PK\x03\x04"
_DESCRIPTOR_MAGIC = b"PK\x07\x08"
_IS_ENCRYPTED, _HAS_DESCRIPTOR, _IS_UTF8 = 0x1, 0x8, 0x800
_UNKNOWN_32 = 0xFFFFFFFF
_LARGE_SIZES, _UNICODE_PATH = 0x0001, 0x7075  # kinds of extra fields
_CRC = struct.Struct("<L")
# zipfile reads the whole directory at once and makes some 600 bytes of each entry.
# Two million entries with names of a hundred letters have 350 MiB.
_MOST_DIRECTORY_BYTES = 512 * MIB
_LEAST_ENTRY_BYTES = 46
# Places in the record at the end of a zip, as zipfile counts them.
_ENTRIES_AT, _DIRECTORY_BYTES_AT = 4, 5
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError)


@dataclass(slots=True)
class Member:
    """One entry of an archive; there may be a million at once.

    Args:
        name: Its name as bytes, in an encoding still to be found.
        file: Its content, without a name so far; None for folders and faults.
        fault: Code and reason where its content could not be had.
        is_utf8: Whether the archive vouches for UTF-8.
        is_folder: Whether it is the entry of a folder.
    """

    name: bytes
    file: FoundFile | None = None
    fault: tuple[str, str] | None = None
    is_utf8: bool = False
    is_folder: bool = False

    def keep(
        self, pieces: Iterable[bytes], basket: Basket, packed_bytes: int | None
    ) -> None:
        """Puts its content into `basket`; raises what `Basket.save` raises."""
        digest = hashlib.sha256()
        path = basket.save(_digested(pieces, digest), packed_bytes=packed_bytes)
        self.file = FoundFile(path, "", digest.digest())


def _digested(pieces: Iterable[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


class CutOffError(Exception):
    """The archive ended before its end; what came before it is good."""


def read_zip(path: Path, basket: Basket) -> Iterator[tuple[int, Member]]:
    """Yields the members of a zip, their content in `basket`.

    Yields:
        (bytes of the zip read so far, member).

    Raises:
        CutOffError: After the last member that could be had, when the zip is cut off
            or its directory is damaged.
        MemberFaultError: The whole archive grows like a bomb, or its directory is
            larger than any honest one.
        UserError: It holds too many files, of which none has been unpacked.
    """
    packed_bytes = path.stat().st_size
    kept_bytes = read_bytes = 0
    try:
        _check_directory(path, basket)
        archive = zipfile.ZipFile(path)
    except (*_BROKEN, NotImplementedError, struct.error):
        yield from _salvage(path, basket)
        raise CutOffError from None
    with archive:
        # zipfile keeps some 600 bytes for each entry: they go while members come.
        archive.NameToInfo.clear()
        entries = archive.infolist()
        entries.reverse()
        while entries:
            entry = entries.pop()
            basket.count_file()
            before = basket.size_bytes
            member = _read_entry(archive, entry, basket)
            read_bytes += entry.compress_size
            yield read_bytes, member
            if member.fault is None:
                # Members may overlap: each is honest then, and all together are not.
                kept_bytes += basket.size_bytes - before
                basket.check_ratio(kept_bytes, packed_bytes)


def _check_directory(path: Path, basket: Basket) -> None:
    """Refuses what is too much by what stands at the end, before it is read."""
    with path.open("rb") as stream, contextlib.suppress(OSError):
        # zipfile's own reader, so that what is checked is what it will go by.
        record: Any = zipfile._EndRecData(stream)  # type: ignore[attr-defined] # noqa: SLF001
        if record is not None:
            size_bytes = record[_DIRECTORY_BYTES_AT]
            _check_directory_size(size_bytes, path.stat().st_size)
            most = size_bytes // _LEAST_ENTRY_BYTES
            basket.require_files(min(record[_ENTRIES_AT], most))


def _check_directory_size(size_bytes: int, archive_bytes: int) -> None:
    # A claim of more than there is comes of damage, and what is whole can be had.
    if _MOST_DIRECTORY_BYTES < size_bytes <= archive_bytes:
        raise MemberFaultError(
            "too_large",
            f"Its list of contents is larger than {say_size(_MOST_DIRECTORY_BYTES)}, "
            "the most that is read. Pack its files into several archives.",
        )


def _read_entry(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, basket: Basket
) -> Member:
    is_utf8 = bool(entry.flag_bits & _IS_UTF8)
    # `orig_filename` is what the zip says; zipfile reads it as code page 437 unless
    # the archive vouches for UTF-8, so this gives the bytes back.
    name = entry.orig_filename.encode("utf-8" if is_utf8 else "cp437")
    member = _name_member(name, is_utf8=is_utf8, extra=entry.extra)
    member.is_folder = entry.is_dir() or name.endswith(b"\\")
    if member.is_folder:
        return member
    try:
        _refuse_special(entry.flag_bits, entry.external_attr >> 16)
        pieces = _guarded(lambda: _pieces(archive, entry))
        member.keep(pieces, basket, entry.compress_size)
    except MemberFaultError as fault:
        member.fault = fault.facts
    return member


def _name_member(name: bytes, *, is_utf8: bool, extra: bytes) -> Member:
    """Takes the name in UTF-8 that some packers keep beside one in an old encoding."""
    for kind, body in _list_extras(extra):
        if kind == _UNICODE_PATH and body[:5] == b"\1" + _CRC.pack(zlib.crc32(name)):
            return Member(body[5:], is_utf8=True)
    return Member(name, is_utf8=is_utf8)


def _list_extras(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        yield kind, extra[at + 4 : at + 4 + length]
        at += 4 + length


def _refuse_special(flags: int, mode: int) -> None:
    if flags & _IS_ENCRYPTED:
        raise MemberFaultError(
            "encrypted", "It is encrypted; pack it again without a password."
        )
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise MemberFaultError("link", LINK_REASON)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise MemberFaultError("special_file", SPECIAL_REASON)


LINK_REASON = "It is a link to another place, and links are never followed."
SPECIAL_REASON = "It is a device or another special file, not a picture."


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(entry) as stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece


def _guarded(pieces: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    """Turns what decompressors raise on damaged data into a `MemberFaultError`."""
    try:
        yield from pieces()
    except (NotImplementedError, RuntimeError) as error:
        raise MemberFaultError(
            "unsupported_compression",
            "It is compressed in a way that Trainyard cannot read; pack it again as "
            "an ordinary zip.",
        ) from error
    except _BROKEN as error:
        raise MemberFaultError("damaged", DAMAGED_REASON) from error
    except OSError as error:
        if is_unreadable(error):  # a bad sector under this one; others may be well
            reason = unreadable_reason(error)
            raise MemberFaultError("unreadable", reason) from error
        if error.errno is not None:  # the disk, not the data
            raise
        raise MemberFaultError("damaged", DAMAGED_REASON) from error


DAMAGED_REASON = "Its data in the archive is damaged; pack it again."
_CUT_REASON = "The archive ends in the middle of it."


def _salvage(path: Path, basket: Basket) -> Iterator[tuple[int, Member]]:
    with path.open("rb") as stream:
        while True:
            member = _salvage_one(stream, basket)
            if member is None:
                return
            yield stream.tell(), member
            if member.fault is not None and member.fault[0] == "cut_off":
                return


@dataclass(slots=True)
class _Header:
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    name: bytes
    extra: bytes


def _salvage_one(stream: BinaryIO, basket: Basket) -> Member | None:
    header = _read_header(stream)
    if header is None:
        return None
    basket.count_file()
    member = _name_member(
        header.name, is_utf8=bool(header.flags & _IS_UTF8), extra=header.extra
    )
    member.is_folder = header.name.endswith(b"/")
    start = stream.tell()
    # With a descriptor behind the data its size is unknown until it is unpacked.
    knows_size = not header.flags & _HAS_DESCRIPTOR or header.packed > 0
    try:
        _refuse_special(header.flags, 0)
        content = _unpack_here(stream, header, knows_size=knows_size)
        packed = header.packed if knows_size else None
        member.keep(_guarded(lambda: content), basket, packed)
    except MemberFaultError as fault:
        member.fault = fault.facts
        if not knows_size:  # nothing says where the next one begins
            member.fault = ("cut_off", fault.reason)
        else:
            stream.seek(start + header.packed)
    if member.is_folder:
        member.file = None
    return member


def _read_header(stream: BinaryIO) -> _Header | None:
    raw = stream.read(_LOCAL_HEADER.size)
    if len(raw) < _LOCAL_HEADER.size or not raw.startswith(_LOCAL_MAGIC):
        return None
    _, _, flags, method, _, _, crc, packed, size, name_size, extra_size = (
        _LOCAL_HEADER.unpack(raw)
    )
    name, extra = stream.read(name_size), stream.read(extra_size)
    if len(extra) < extra_size or len(name) < name_size:
        return None
    if _UNKNOWN_32 in (packed, size):
        size, packed = _zip64_sizes(extra, size, packed)
    return _Header(flags, method, crc, packed, size, name, extra)


def _zip64_sizes(extra: bytes, size: int, packed: int) -> tuple[int, int]:
    for kind, body in _list_extras(extra):
        if kind == _LARGE_SIZES and len(body) >= 16:  # noqa: PLR2004 - two of eight
            size, packed = struct.unpack_from("<QQ", body)
    return size, packed


def _unpack_here(
    stream: BinaryIO, header: _Header, *, knows_size: bool
) -> Iterator[bytes]:
    """Yields the content at the stream's place, its checksum compared at the end."""
    crc = 0
    source = _stored if header.method == zipfile.ZIP_STORED else _inflated
    if source is _stored and not knows_size:
        raise MemberFaultError(
            "cut_off", "Its size stood in the part of the archive that is missing."
        )
    for piece in source(stream, header, knows_size=knows_size):
        crc = zlib.crc32(piece, crc)
        yield piece
    expected = header.crc if knows_size else _read_descriptor(stream)
    if crc != expected:
        raise MemberFaultError("damaged", DAMAGED_REASON)


def _stored(stream: BinaryIO, header: _Header, *, knows_size: bool) -> Iterator[bytes]:
    left = header.packed if knows_size else 0
    while left:
        piece = stream.read(min(left, PIECE_BYTES))
        if not piece:
            raise MemberFaultError("cut_off", _CUT_REASON)
        left -= len(piece)
        yield piece


def _inflated(
    stream: BinaryIO, header: _Header, *, knows_size: bool
) -> Iterator[bytes]:
    if header.method != zipfile.ZIP_DEFLATED:
        raise NotImplementedError
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    left = header.packed if knows_size else None
    while not engine.eof:
        wanted = _PACKED_BYTES if left is None else min(left, _PACKED_BYTES)
        piece = stream.read(wanted)
        if not piece:
            raise MemberFaultError("cut_off", _CUT_REASON)
        left = None if left is None else left - len(piece)
        yield engine.decompress(piece)
    stream.seek(-len(engine.unused_data), 1)


def _read_descriptor(stream: BinaryIO) -> int:
    """Reads the checksum behind the data and stops at the next member."""
    start = stream.tell()
    raw = stream.read(24)
    skip = 4 if raw.startswith(_DESCRIPTOR_MAGIC) else 0
    if len(raw) < skip + 12:
        raise MemberFaultError("cut_off", _CUT_REASON)
    # Two sizes follow, of four bytes each, or of eight in the large format.
    for length in (12, 20):
        stream.seek(start + skip + length)
        following = stream.read(2)
        if following in (b"PK", b""):
            break
    stream.seek(start + skip + length)
    return struct.unpack_from("<L", raw, skip)[0]
