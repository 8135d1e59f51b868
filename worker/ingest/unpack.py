"""From the sources of an upload to found files: names made safe, junk left out.

Archives are unpacked below the attempt's own folder under names of ours; folders on
the server stay where they are. A user's name for a file is only ever text.
"""

import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from worker.ingest.found import FoundFile, SkipList, junk_reason
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
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Archives that are told apart only to be refused by their names.
_OTHER_ARCHIVES = {
    b"Rar!\x1a\x07": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard",
}
_PLEASE = "Trainyard unpacks zip, tar and tar.gz."
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
    report: Callable[[], None] = lambda: None,
) -> Unpacked:
    """Unpacks one zip or tar into `basket`.

    Args:
        path: The archive.
        name: The user's name for it.
        basket: Receives the files and counts them over all sources.
        skips: Receives what is left out.
        report: Called after each file.

    Raises:
        UserError: The upload as a whole is too much.
        OSError: The disk is full or the archive cannot be read from it.
    """
    unpacked = Unpacked()
    members: list[Member] = []
    try:
        for member in _read_members(path, basket):
            members.append(member)
            report()
    except CutOffError:
        got = sum(member.path is not None for member in members)
        skips.add(
            name,
            "cut_off",
            f"The archive is cut off or damaged: {got} files could be unpacked.",
        )
        unpacked.notes.append(
            f"“{name}” is cut off or damaged. {got} files could be unpacked; upload "
            "it again to have the rest."
        )
    except MemberFaultError as fault:
        skips.add(name, fault.code, fault.reason)
        unpacked.notes.append(f"“{name}” was not unpacked to its end. {fault.reason}")
    except NoTarError:
        skips.add(name, "not_an_archive", _refusal(path))
    _name_members(members, unpacked, skips, name)
    return unpacked


def list_folder(path: Path, *, basket: Basket, skips: SkipList) -> Unpacked:
    """Lists a folder on the server; links are never followed.

    Args: as for `unpack_archive`; the files stay where they are.
    """
    unpacked = Unpacked()
    members: list[Member] = []
    for folder, folders, files in os.walk(path, onerror=_note(path, skips)):
        for name in list(folders):
            member = Member(_name_below(path, folder, name), is_folder=True)
            if Path(folder, name).is_symlink():
                member.is_folder = False
                member.fault = MemberFaultError("link", LINK_REASON)
            elif (reason := junk_reason(name)) is not None:
                # One sentence for `.git`, not one for each of its files.
                folders.remove(name)
                member.is_folder = False
                member.fault = MemberFaultError("junk", reason)
            members.append(member)
        for file in sorted(files):
            member = Member(_name_below(path, folder, file))
            _look_at(Path(folder, file), member, basket)
            members.append(member)
    _name_members(members, unpacked, skips, path.name)
    return unpacked


def _name_below(root: Path, folder: str, name: str) -> bytes:
    return os.fsencode(Path(folder, name).relative_to(root))


def _note(root: Path, skips: SkipList) -> Callable[[OSError], None]:
    def note(error: OSError) -> None:
        name = os.fsencode(os.path.relpath(error.filename, root))
        skips.add(
            name.decode("utf-8", "replace"), "unreadable", unreadable_reason(error)
        )

    return note


def unreadable_reason(error: OSError) -> str:
    """Says why a file or folder on the server could not be read."""
    return f"It cannot be read: {error.strerror}."


def _look_at(path: Path, member: Member, basket: Basket) -> None:
    try:
        facts = path.lstat()
    except FileNotFoundError as error:  # it went while the folder was listed
        member.fault = MemberFaultError("unreadable", unreadable_reason(error))
        return
    if stat.S_ISLNK(facts.st_mode):
        member.fault = MemberFaultError("link", LINK_REASON)
    elif not stat.S_ISREG(facts.st_mode):
        member.fault = MemberFaultError("special_file", SPECIAL_REASON)
    else:
        try:
            basket.check_size(facts.st_size)
        except MemberFaultError as fault:
            member.fault = fault
            return
        basket.count_file(facts.st_size)
        member.path = str(path)


def _read_members(path: Path, basket: Basket) -> Iterator[Member]:
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
    names, encoding = _decode(members)
    if encoding not in ("utf-8", "ascii"):
        unpacked.notes.append(
            f"“{archive}” does not say how its file names are written; they were "
            f"read as {_ENCODING_WORDS.get(encoding, encoding)}."
        )
    for member, raw in zip(members, names, strict=True):
        name = _clean(raw)
        reason = _unsafe_reason(raw, name)
        if reason is not None:
            _leave_out(member, skips, name or raw, "unsafe_path", reason)
        elif (reason := junk_reason(name)) is not None:
            _leave_out(member, skips, name, "junk", reason)
        elif member.fault is not None:
            skips.add(name, member.fault.code, member.fault.reason)
        elif member.is_folder:
            unpacked.folders.append(name)
        elif member.path is not None and name:
            found = FoundFile(Path(member.path), name, member.sha256)
            unpacked.files.append(found)


_ENCODING_WORDS = {
    "gbk": "Chinese (GBK)",
    "shift_jis": "Japanese (Shift-JIS)",
    "cp1251": "Cyrillic (Windows-1251)",
    "cp866": "Cyrillic (code page 866)",
    "cp437": "code page 437",
    "latin-1": "Western European (Latin-1)",
}


def _decode(members: Iterable[Member]) -> tuple[list[str], str]:
    """Decodes all names; those that the archive does not vouch for, together."""
    members = list(members)
    open_ones = [member.name for member in members if not member.is_utf8]
    guessed, encoding = decode_names(open_ones)
    rest = iter(guessed)
    names = [
        member.name.decode("utf-8", "replace") if member.is_utf8 else next(rest)
        for member in members
    ]
    return names, encoding


def _clean(raw: str) -> str:
    """One spelling of a name: `/` between parts, no empty parts, no control signs."""
    parts = raw.replace("\\", "/").split("/")
    kept = [part for part in parts if part not in ("", ".")]
    return _CONTROL.sub("\ufffd", "/".join(kept))


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
