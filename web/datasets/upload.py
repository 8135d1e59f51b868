"""Writes an upload to shared storage as it arrives; memory stays flat.

A file exists under its name only when it is whole and on the disk:
1. bytes go to `.part` beside the name they will have;
2. the file is synced, renamed and its folder synced;
3. whatever goes wrong before that removes the `.part`.
"""

import contextlib
import hashlib
import os
import re
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from shared.artifacts import LOOK_BYTES, RESERVE_BYTES
from shared.durable_files import fsync_folder
from shared.errors import UserError
from shared.source_kinds import ARCHIVES, ARCHIVES_IN_WORDS

CHUNK_BYTES = 1 << 20
MAX_NAME_CHARACTERS = 100


class UploadTooLargeError(UserError):
    """The upload is over the limit (413)."""

    status = 413


class DiskFullError(UserError):
    """Shared storage has no room for the upload (507)."""

    status = 507


class Readable(Protocol):
    """What an upload is read from."""

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes, none at the end."""
        ...


@dataclass(frozen=True)
class Limits:
    """What an upload may measure, bytes; `expected` is null when not announced."""

    most: int
    expected: int | None


def receive(stream: Readable, target: Path, limits: Limits) -> str:
    """Writes `stream` to `target`, durably and all or nothing.

    Returns:
        The SHA-256 of what was written.

    Raises:
        UploadTooLargeError: When more than `limits.most` bytes come or are announced.
        DiskFullError: When they would not fit.
        UserError: When fewer bytes come than were announced, or none.
    """
    require_room(target, limits)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        with part.open("wb") as file:
            written, digest = _copy(stream, file, limits.most)
            _require_whole(written, limits.expected)
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
        fsync_folder(target.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            target.parent.rmdir()
        raise
    return digest


def digest_of(stream: Readable) -> str:
    """Reads `stream` to its end and returns its SHA-256; keeps nothing."""
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def archive_suffix(filename: str) -> str:
    """Returns the suffix that says which archive `filename` is.

    Raises:
        UserError: For names of anything else.
    """
    suffix = find_suffix(filename, ARCHIVES)
    if suffix is not None:
        return suffix
    raise UserError(
        f"{shown_name(filename)} is not an archive that can be read. Upload a "
        f"{ARCHIVES_IN_WORDS} with one folder per class, or with a CSV of "
        f"filename,label.",
        field="filename",
    )


def find_suffix(filename: str, suffixes: tuple[str, ...]) -> str | None:
    """Returns the one of `suffixes` that `filename` ends with, after a stem."""
    lower = filename.lower().strip()
    for suffix in suffixes:
        if lower.endswith(suffix) and len(lower) > len(suffix):
            return suffix
    return None


def shown_name(filename: str) -> str:
    """Returns `filename` as it may be stored and shown: its last part, no controls.

    A client may send a whole path, or anything at all.
    """
    last = re.split(r"[\\/]", filename)[-1]
    clean = "".join(
        c
        for c in unicodedata.normalize("NFC", last)
        if unicodedata.category(c)[0] != "C"
    ).strip()
    return clean[-MAX_NAME_CHARACTERS:] or "upload"


def stored_name(filename: str) -> str:
    """Returns the name an upload has on disk: ASCII, no dots in front, its suffix."""
    return clean_file_name(filename, archive_suffix(filename))


def clean_file_name(filename: str, suffix: str) -> str:
    """Returns an ASCII name for the disk; `suffix` is how `filename` ends."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", shown_name(filename)[: -len(suffix)])
    return (stem.strip("_")[:60] or "upload") + suffix


def require_room(target: Path, limits: Limits) -> None:
    """Returns when what is announced may come to `target` and fits.

    Raises:
        UploadTooLargeError: When it is over the limit.
        DiskFullError: When the disk has too little room.
    """
    if limits.expected is None:
        return
    if limits.expected > limits.most:
        raise too_large(limits.most)
    folder = next(p for p in target.parents if p.exists())
    free = shutil.disk_usage(folder).free
    if limits.expected + RESERVE_BYTES > free:
        raise DiskFullError(
            f"The server has {free >> 20} MiB free; this upload needs "
            f"{limits.expected >> 20} MiB and {RESERVE_BYTES >> 20} MiB must stay "
            f"free. Delete datasets or models that are no longer needed."
        )


def _copy(stream: Readable, file: BinaryIO, most: int) -> tuple[int, str]:
    written, since_look, digest = 0, 0, hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        written += len(chunk)
        if written > most:
            raise too_large(most)
        file.write(chunk)
        digest.update(chunk)
        since_look += len(chunk)
        if since_look >= LOOK_BYTES:  # others fill the disk too; some announce no size
            since_look = 0
            require_reserve(Path(file.name))
    return written, digest.hexdigest()


def require_reserve(path: Path) -> None:
    """Returns when the disk that `path` lies on still has room for everybody else.

    Raises:
        DiskFullError: When it has not.
    """
    free = shutil.disk_usage(path).free
    if free < RESERVE_BYTES:
        raise DiskFullError(
            f"The server has {free >> 20} MiB left and must keep {RESERVE_BYTES >> 20} "
            f"MiB, so the upload was stopped. Delete datasets or models that are no "
            f"longer needed."
        )


def _require_whole(written: int, expected: int | None) -> None:
    if written == 0:
        raise UserError("The upload is empty.", field="file")
    if expected is not None and written != expected:
        raise UserError(
            f"The upload broke off: {written} of {expected} bytes came. Send it again.",
            field="file",
        )


def too_large(most: int) -> UploadTooLargeError:
    """Makes the refusal of what is over `most` bytes."""
    return UploadTooLargeError(
        f"The upload is larger than the {most >> 20} MiB that this server accepts."
    )
