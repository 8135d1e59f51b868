"""From the sources of an upload to found files: names made safe, junk left out.

Archives are unpacked below the attempt's own folder under names of ours; folders on
the server stay where they are. A user's name for a file is only ever text.
"""

import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shared.source_kinds import ARCHIVES_IN_WORDS
from worker.ingest.disk import is_unreadable, refuse_source, unreadable_reason
from worker.ingest.found import (
    FoundFile,
    SkipList,
    has_halves,
    junk_reason,
    plain_name,
)
from worker.ingest.limits import Basket, MemberFaultError
from worker.ingest.name_encoding import decode_names
from worker.ingest.tar_members import NoTarError, read_tar
from worker.ingest.zip_members import (
    LINK_REASON,
    SPECIAL_REASON,
    CutOffError,
    Member,
    read_zip,
)

_MAX_NAME_CHARACTERS = 4096
# Archives that are told apart only to be refused by their names.
_OTHER_ARCHIVES = {
    b"Rar!\x1a\x07": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard",
}
_PLEASE = f"Trainyard unpacks {ARCHIVES_IN_WORDS}."
_TOLD_EVERY = 1000  # files of a folder
_PACKERS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


@dataclass(slots=True)
class Unpacked:
    """What one source held.

    Args:
        files: Every file that may be of use.
        folders: Names of the folders that had an entry of their own.
        notes: Sentences for the user.
    """

    files: list[FoundFile] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def unpack_archive(
    path: Path,
    *,
    name: str,
    basket: Basket,
    skips: SkipList,
    report: Callable[[int], None] = lambda _read_bytes: None,
) -> Unpacked:
    """Unpacks one zip or tar into `basket`.

    Args:
        path: The archive.
        name: The user's name for it.
        basket: Receives the files and counts them over all sources.
        skips: Receives what is left out.
        report: Called after each file with how many bytes of the archive were read.

    Raises:
        UserError: The upload as a whole is too much, or nothing of the archive can be
            read.
        OSError: The disk is full.
    """
    unpacked = Unpacked()
    members: list[Member] = []
    try:
        # Pictures hardly shrink in an archive.
        basket.require_room(path.stat().st_size)
        for read_bytes, member in _read_members(path, basket):
            members.append(member)
            report(read_bytes)
    except CutOffError:
        _tell_cut(name, "is cut off or damaged", members, unpacked, skips)
    except OSError as error:
        if not is_unreadable(error):
            raise
        if not members:
            raise refuse_source(name, error) from error
        why = f"cannot be read to its end ({error.strerror})"
        _tell_cut(name, why, members, unpacked, skips)
    except MemberFaultError as fault:
        skips.add(name, fault.code, fault.reason)
        unpacked.notes.append(f"“{name}” was not unpacked to its end. {fault.reason}")
    except NoTarError:
        skips.add(name, "not_an_archive", _refusal(path))
    _name_members(members, unpacked, skips, name)
    return unpacked


def _tell_cut(
    name: str, why: str, members: list[Member], unpacked: Unpacked, skips: SkipList
) -> None:
    got = sum(member.file is not None for member in members)
    skips.add(name, "cut_off", f"The archive {why}: {got} files could be unpacked.")
    unpacked.notes.append(
        f"“{name}” {why}. {got} files could be unpacked; upload it again to have the "
        "rest."
    )


def list_folder(
    path: Path,
    *,
    name: str,
    basket: Basket,
    skips: SkipList,
    report: Callable[[int], None] = lambda _count: None,
) -> Unpacked:
    """Lists a folder on the server; links are never followed.

    Args:
        path: The folder; its files stay where they are.
        name: The user's name for it.
        basket: Counts its files over all sources.
        skips: Receives what is left out.
        report: Called, every now and then, with how many files and folders there are
            so far.

    Raises:
        UserError: The upload as a whole is too much, or the folder cannot be read.
        OSError: The disk is full: its files are copied in the end.
    """
    unpacked = Unpacked()
    members: list[Member] = []
    for member in _list_members(path, name, basket, skips):
        members.append(member)
        if len(members) % _TOLD_EVERY == 0:
            report(len(members))
    report(len(members))
    _name_members(members, unpacked, skips, plain_name(path.name))
    return unpacked


def _list_members(
    root: Path, name: str, basket: Basket, skips: SkipList
) -> Iterator[Member]:
    for folder, folders, files in os.walk(root, onerror=_note(root, name, skips)):
        for inner in list(folders):
            basket.count_file()
            member = Member(_name_below(root, folder, inner), is_folder=True)
            member.fault = _folder_fault(Path(folder, inner))
            if member.fault is not None:
                # One sentence for `.git`, not one for each of its files.
                folders.remove(inner)
                member.is_folder = False
            yield member
        for file in sorted(files):
            basket.count_file()
            member = Member(_name_below(root, folder, file))
            try:
                _look_at(Path(folder, file), member, basket)
            except MemberFaultError as fault:
                member.fault = fault.facts
            yield member


def _name_below(root: Path, folder: str, name: str) -> bytes:
    return os.fsencode(Path(folder, name).relative_to(root))


def _note(root: Path, name: str, skips: SkipList) -> Callable[[OSError], None]:
    def note(error: OSError) -> None:
        below = os.path.relpath(error.filename, root)
        if below == ".":
            raise refuse_source(name, error) from error
        shown = os.fsencode(below).decode("utf-8", "replace")
        skips.add(shown, "unreadable", unreadable_reason(error))

    return note


def _folder_fault(path: Path) -> tuple[str, str] | None:
    try:
        is_link = stat.S_ISLNK(path.lstat().st_mode)
    except OSError as error:
        return _lstat_fault(error).facts
    if is_link:
        return "link", LINK_REASON
    reason = junk_reason(path.name)
    return None if reason is None else ("junk", reason)


def _look_at(path: Path, member: Member, basket: Basket) -> None:
    try:
        facts = path.lstat()
    except OSError as error:
        raise _lstat_fault(error) from error
    if stat.S_ISLNK(facts.st_mode):
        raise MemberFaultError("link", LINK_REASON)
    if not stat.S_ISREG(facts.st_mode):
        raise MemberFaultError("special_file", SPECIAL_REASON)
    basket.check_size(facts.st_size)
    basket.count_bytes(facts.st_size)
    member.file = FoundFile(path, "")


def _lstat_fault(error: OSError) -> MemberFaultError:
    """What it means for one file or folder that the server does not tell of it."""
    if not is_unreadable(error):
        raise error
    # It may also have gone while the folder was listed.
    return MemberFaultError("unreadable", unreadable_reason(error))


def _read_members(path: Path, basket: Basket) -> Iterator[tuple[int, Member]]:
    with path.open("rb") as stream:
        head = stream.read(4)
    if head[:2] == b"PK":
        yield from read_zip(path, basket)
        return
    try:
        yield from read_tar(path, basket)
    except NoTarError:
        # A self-extracting zip begins with its program. Asked last: a tar may end
        # with a zip as its last member.
        if not zipfile.is_zipfile(path):
            raise
        yield from read_zip(path, basket)


def _refusal(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(8)
    if not head:
        return "The archive is empty (0 bytes)."
    for magic, what in _OTHER_ARCHIVES.items():
        if head.startswith(magic):
            return f"It is {what}. {_PLEASE}"
    for magic, packer in _PACKERS.items():
        if head.startswith(magic):
            return (
                f"It is compressed with {packer}, but what comes out is no tar, or it "
                f"is cut off at its very beginning. {_PLEASE}"
            )
    return f"It is no archive that can be read. {_PLEASE}"


def _name_members(
    members: list[Member],
    unpacked: Unpacked,
    skips: SkipList,
    archive: str,
) -> None:
    """Decodes the names and sorts the members into files, folders and skips."""
    names, note = _decode(members)
    if note:
        unpacked.notes.append(f"“{archive}” does not say how its file names {note}")
    for member, raw in zip(members, names, strict=True):
        name = _clean(raw)
        reason = _unsafe_reason(raw, name)
        if reason is not None:
            _leave_out(member, skips, name or raw, "unsafe_path", reason)
        elif (reason := junk_reason(name)) is not None:
            _leave_out(member, skips, name, "junk", reason)
        elif member.fault is not None:
            skips.add(name, *member.fault)
        elif member.is_folder:
            unpacked.folders.append(name)
        elif member.file is not None and name:
            member.file.name = name
            member.file.spelling = _find_spelling(member.name)
            unpacked.files.append(member.file)


_ENCODING_WORDS = {
    "gbk": "Chinese (GBK)",
    "shift_jis": "Japanese (Shift-JIS)",
    "cp1251": "Cyrillic (Windows-1251)",
    "cp866": "Cyrillic (code page 866)",
    "cp437": "code page 437",
    "latin-1": "Western European (Latin-1)",
}


def _decode(members: list[Member]) -> tuple[list[str], str]:
    """Decodes all names; those that the archive does not vouch for, together.

    Returns:
        The names, and how a sentence about guessed ones ends, if there are any.
    """
    open_ones = [member.name for member in members if not member.is_utf8]
    decoded = decode_names(open_ones)
    rest = iter(decoded.names)
    names = [
        member.name.decode("utf-8", "replace") if member.is_utf8 else next(rest)
        for member in members
    ]
    if not decoded.guessed:
        return names, ""
    words = _ENCODING_WORDS.get(decoded.encoding, decoded.encoding)
    strange = sum(not name.isascii() for name in open_ones)
    if decoded.guessed == strange:
        return names, f"are written; they were read as {words}."
    return names, (
        f"are written; {decoded.guessed:,} of them are no UTF-8 and were read as "
        f"{words}."
    )


def _find_spelling(raw: bytes) -> str | None:
    """How Python's own listings spell bytes that are no UTF-8; None where they are."""
    spelling = raw.decode("utf-8", "surrogateescape")
    return _tidy(spelling) if has_halves(spelling) else None


def _clean(raw: str) -> str:
    """One spelling of a name: `/` between parts, no empty parts, no control signs."""
    return plain_name(_tidy(raw))


def _tidy(raw: str) -> str:
    parts = raw.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _unsafe_reason(raw: str, name: str) -> str | None:
    """Says why a name is not to be trusted. Windows separators count on any system."""
    unified = raw.replace("\\", "/")
    if ".." in unified.split("/"):
        return "Its name leads out of the archive (“..”)."
    if unified.startswith("/") or re.match(r"[A-Za-z]:", unified):
        return "Its name is an absolute path."
    if "\0" in raw or len(name) > _MAX_NAME_CHARACTERS:
        return "Its name is not one that a file can have."
    return None


def _leave_out(
    member: Member, skips: SkipList, name: str, code: str, reason: str
) -> None:
    if member.is_folder:
        return
    skips.add(name[:_MAX_NAME_CHARACTERS], code, reason)
