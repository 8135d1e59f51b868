"""Uploads on shared storage: what one is, and how it grows.

An upload is a folder `uploads/<id>/` with three files:
- `info.json`: whose it is, what it is called and how long it will be;
- the data, under the name that the ingest job will read; its size is the offset, so
  nothing has to agree with it after a crash;
- `lock`: held while a piece is appended, never while one is waited for. A client that
  vanished without a word so keeps nobody from continuing: the first piece that fits at
  the end is appended, and whoever comes second is told that the offset has moved.

Nothing of it lies in a process, so any process of any host may take the next request.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shared.artifacts import Storage, remove_tree
from shared.durable_files import fsync_folder, write_atomically
from shared.errors import ConflictError, NotFoundError, UserError
from shared.file_locks import FileLock, is_gone, try_lock
from shared.garbage import UPLOAD_LOCK, YOUNG_SECONDS
from shared.source_kinds import ARCHIVES, ARCHIVES_IN_WORDS, TABLES
from web.datasets.upload import (
    Limits,
    clean_file_name,
    find_suffix,
    require_room,
    shown_name,
)
from web.uploads import refusals
from web.uploads.digests import running

INFO = "info.json"
# Unfinished and not yet used ones; a client that loses count must not fill the disk
# with empty folders.
MAX_PER_USER = 1000
LOCK_PATIENCE_SECONDS = 10.0
LOCK_LOOK_SECONDS = 0.02
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Info:
    """What `info.json` holds.

    Args:
        owner_id: Who may use the upload.
        filename: What the user's computer calls it, cleaned for showing.
        stored_name: The data's name in the folder.
        length: All its bytes; null until the client knows.
        metadata: The client's `Upload-Metadata`, given back as it came.
        fingerprint: By which a client knows its file again, if it gave one.
        created_at: Seconds since 1970.
        sha256: Of the whole, once it has been computed.
    """

    owner_id: int
    filename: str
    stored_name: str
    length: int | None
    metadata: str
    fingerprint: str | None
    created_at: float
    sha256: str | None = None


@dataclass(frozen=True)
class Upload:
    """One upload as it was when it was opened.

    Args:
        id: Its name in addresses.
        folder: Where it lies.
        info: What is known of it.
    """

    id: str
    folder: Path
    info: Info

    @property
    def data(self) -> Path:
        """The file with what has come."""
        return self.folder / self.info.stored_name

    @property
    def is_table(self) -> bool:
        """Whether it is a table of labels and not an archive."""
        return find_suffix(self.info.stored_name, TABLES) is not None


def create(
    storage: Storage,
    *,
    owner_id: int,
    filename: str,
    length: int | None,
    metadata: str,
    fingerprint: str | None,
    most: int,
) -> Upload:
    """Makes an empty upload, durably.

    Args:
        storage: Shared storage.
        owner_id: Who may use it.
        filename: What the user's computer calls it; never trusted.
        length: All its bytes; null when the client will say it later.
        metadata: To be given back.
        fingerprint: By which the client knows its file again.
        most: What an upload may measure, bytes.

    Raises:
        UserError: When it is neither an archive nor a table, or there are too many.
        UploadTooLargeError: When it is announced over the limit.
        DiskFullError: When it would not fit.
    """
    stored = _stored_name(filename)
    upload_id = secrets.token_hex(16)
    folder = storage.upload(upload_id)
    require_room(folder, Limits(most, length))
    _refuse_too_many(storage, owner_id)
    info = Info(
        owner_id=owner_id,
        filename=shown_name(filename),
        stored_name=stored,
        length=length,
        metadata=metadata,
        fingerprint=fingerprint,
        created_at=time.time(),
    )
    upload = Upload(upload_id, folder, info)
    folder.mkdir(parents=True)
    for name in (stored, UPLOAD_LOCK):
        (folder / name).touch()
    _save_info(upload)
    fsync_folder(folder.parent)
    return upload


def open_upload(
    storage: Storage,
    owner_id: int,
    upload_id: str,
    *,
    is_kept: Callable[[], bool] = lambda: False,
) -> Upload:
    """Returns the upload that this user may use under this id.

    Args:
        storage: Shared storage.
        owner_id: Who asks.
        upload_id: As it came in a request.
        is_kept: Asked of one that nobody has continued for long: whether it stays
            all the same.

    Raises:
        NotFoundError: When there is none, or it is somebody else's.
        GoneError: When its last byte came too long ago.
    """
    upload = _find(storage, upload_id)
    if upload is None or upload.info.owner_id != owner_id:
        raise _missing()
    if time.time() > expires_at(upload) and not is_kept():
        raise refusals.GoneError(
            f"The upload of {upload.info.filename} was not continued for "
            f"{YOUNG_SECONDS // 3600} hours, so it is removed. Upload it anew."
        )
    return upload


def list_of(
    storage: Storage, owner_id: int, kept: Collection[str] = ()
) -> list[Upload]:
    """Returns the uploads of one user that have not expired, the oldest first.

    A worker removes an upload without its lock once a dataset is made of it: what
    vanishes meanwhile is skipped.

    Args:
        storage: Shared storage.
        owner_id: Whose.
        kept: Ids of those that do not expire.
    """
    live = []
    for folder in _list_folders(storage):
        upload = _find(storage, folder)
        if upload is None or upload.info.owner_id != owner_id:
            continue
        with suppress(NotFoundError):
            if upload.id in kept or time.time() <= expires_at(upload):
                live.append(upload)
    return sorted(live, key=lambda upload: upload.info.created_at)


def measure(upload: Upload) -> int:
    """Returns how many bytes have come and are on the disk: the offset.

    Raises:
        NotFoundError: When the upload has been removed.
    """
    with _found(), upload.data.open("rb") as file:
        # What another process has appended may still be on its way to the disk; an
        # offset that was told is never taken back.
        os.fdatasync(file.fileno())
        return os.fstat(file.fileno()).st_size


def expires_at(upload: Upload) -> float:
    """Returns when the upload is given up unless it grows: seconds since 1970.

    Raises:
        NotFoundError: When the upload has been removed.
    """
    with _found():
        return upload.data.stat().st_mtime + YOUNG_SECONDS


def append(upload: Upload, offset: int, piece: bytes) -> int:
    """Appends `piece` when the data ends at `offset`; returns where it ends now.

    Raises:
        ConflictError: When it ends elsewhere: another request was first.
        DiskFullError: When there is no room; some of the piece may have been kept.
    """
    with hold(upload), _found():
        descriptor = os.open(upload.data, os.O_WRONLY)
        try:
            require_offset(offset, os.fstat(descriptor).st_size)
            _write(descriptor, offset, piece)
        finally:
            os.close(descriptor)
        running.feed(upload.id, offset, piece)
    return offset + len(piece)


def require_offset(wanted: int, found: int) -> None:
    """Returns when a piece for `wanted` fits at `found`.

    Raises:
        ConflictError: When it does not.
    """
    if wanted != found:
        raise ConflictError(
            f"The upload is at byte {found}, not at {wanted}. Ask for its offset and "
            f"continue there.",
            field="Upload-Offset",
        )


def settle_length(upload: Upload, length: int) -> Upload:
    """Notes the length that was not known before; returns the upload with it.

    Raises:
        ConflictError: When another length was told before, or more has come already.
    """
    with hold(upload):
        info = _read_info(upload.folder) or upload.info
        if info.length is not None and info.length != length:
            raise ConflictError(
                f"The upload was announced with {info.length} bytes; now {length} are "
                f"announced.",
                field="Upload-Length",
            )
        if measure(upload) > length:
            raise ConflictError(
                f"More than {length} bytes have come already.", field="Upload-Length"
            )
        settled = replace(upload, info=replace(info, length=length))
        _save_info(settled)
    return settled


def keep_digest(upload: Upload, sha256: str) -> None:
    """Notes the SHA-256 of the whole upload; its lock is held."""
    _save_info(replace(upload, info=replace(upload.info, sha256=sha256)))


def touch(upload: Upload) -> None:
    """Puts the upload's end off: somebody is busy with it."""
    with _found():
        os.utime(upload.data)


def remove(upload: Upload) -> None:
    """Removes the upload; its lock is held."""
    running.forget(upload.id)
    remove_tree(upload.folder)


@contextmanager
def hold(upload: Upload) -> Iterator[None]:
    """Holds the upload's lock.

    Raises:
        LockedError: When another request does not let go of it.
        NotFoundError: When the upload has been removed.
    """
    with _lock(upload):
        yield


def _lock(upload: Upload) -> FileLock:
    deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        with _found():
            lock = try_lock(upload.folder / UPLOAD_LOCK, shared=False)
        if lock is not None:
            return lock
        if time.monotonic() > deadline:
            raise refusals.LockedError(
                "Another request writes to this upload. Try again in a moment."
            )
        time.sleep(LOCK_LOOK_SECONDS)


@contextmanager
def _found() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_gone(error):
            raise _missing() from error
        raise


def _write(descriptor: int, offset: int, piece: bytes) -> None:
    view = memoryview(piece)
    try:
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
    except OSError as error:
        if error.errno in refusals.NO_ROOM:
            raise refusals.disk_full_while_growing() from error
        raise


def _refuse_too_many(storage: Storage, owner_id: int) -> None:
    # Counting folders is cheap; whose each one is must be read from every one of them.
    is_possible = len(_list_folders(storage)) >= MAX_PER_USER
    if is_possible and len(list_of(storage, owner_id)) >= MAX_PER_USER:
        raise UserError(
            f"You have {MAX_PER_USER} uploads here already. Make datasets of them, or "
            f"delete some."
        )


def _list_folders(storage: Storage) -> list[str]:
    return [path.name for path in (storage.root / "uploads").glob("*")]


def _stored_name(filename: str) -> str:
    suffix = find_suffix(filename, ARCHIVES + TABLES)
    if suffix is None:
        raise UserError(
            f"{shown_name(filename)} is neither an archive nor a table of labels. "
            f"Upload a {ARCHIVES_IN_WORDS}, and with it a "
            f"{', '.join(TABLES)} of filename,label if the folders do not say "
            f"the labels.",
            field="filename",
        )
    return clean_file_name(filename, suffix)


def _find(storage: Storage, upload_id: str) -> Upload | None:
    if not _ID.fullmatch(upload_id):
        return None
    folder = storage.upload(upload_id)
    info = _read_info(folder)
    if info is None or not (folder / info.stored_name).is_file():
        return None
    return Upload(upload_id, folder, info)


def _read_info(folder: Path) -> Info | None:
    try:
        facts: dict[str, Any] = json.loads((folder / INFO).read_bytes())
        return Info(**facts)
    except (OSError, ValueError, TypeError):  # removed, or never written whole
        return None


def _save_info(upload: Upload) -> None:
    with write_atomically(upload.folder / INFO) as temporary:
        temporary.write_text(json.dumps(asdict(upload.info)))


def _missing() -> NotFoundError:
    return NotFoundError(
        "There is no such upload, or it was removed. Upload the file anew."
    )
