"""Who uses a cached entry of features, and which entries go when there are too many.

Any number of processes on any number of hosts share the folder, one folder an entry:

1. Who reads or computes an entry holds a shared advisory lock on its `in-use` file. The
   lock dies with its holder, and taking it touches the file: access times lie, since
   most systems write them rarely or never.
2. The sweep takes the exclusive lock, so what is in use stays: to remove a file under a
   mapped array ends its reader on NFS. It looks again whether anybody has used the
   entry since it was listed, renames the folder away, so that nobody opens half of it,
   and removes that.

An entry is a cache and is computed again on need.
"""

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shared import file_locks
from shared.artifacts import remove_tree
from shared.file_locks import FileLock

IN_USE = "in-use"
Written = TypeVar("Written")

# Where the file system has no locks, only time tells that a reader has gone.
UNLOCKED_SECONDS = 24 * 3600
# Who has just found an entry may not hold it yet, or may have let go to open it again.
RECENT_SECONDS = 60
# A sweep holds an entry alone for one renaming. One that hangs with it costs its reader
# no more than this and another computation.
_SWEEP_SECONDS = 5.0
_POLL_SECONDS = 0.02
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system (stat(2))


def hold(entry: Path) -> FileLock | None:
    """Keeps the sweep from `entry` until the returned lock is closed.

    Returns:
        None when there is no such folder, or when it is being removed.

    Raises:
        OSError: The folder is there and cannot be used.
    """
    deadline = time.monotonic() + _SWEEP_SECONDS
    try:
        while (lock := file_locks.try_lock(entry / IN_USE, shared=True)) is None:
            # A sweep looks at it, and may yet leave it.
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL_SECONDS)
    except OSError as error:
        if file_locks.is_gone(error):
            return None
        raise
    lock.touch()
    return lock


def remove_unneeded(
    folder: Path, *, max_bytes: int, unused_seconds: float
) -> list[Path]:
    """Removes entries unused for long, then the least recently used above the limit.

    Args:
        folder: Holds one folder per entry.
        max_bytes: What all entries together may take on the disk.
        unused_seconds: After this time without use an entry goes in any case.

    Returns:
        The entries that were removed. Those in use, or used a moment ago, stay, even
        above the limit.
    """
    _remove_leftovers(folder)
    entries = _list_oldest_first(folder)
    total_bytes = sum(entry.size_bytes for entry in entries)
    removed = []
    for entry in entries:
        is_stale = time.time() - entry.used_at > unused_seconds
        if not is_stale and total_bytes <= max_bytes:
            continue
        if _remove(entry):
            total_bytes -= entry.size_bytes
            removed.append(entry.folder)
    return removed


def write_making_room(
    folder: Path, size_bytes: int, write: Callable[[], Written]
) -> Written:
    """Returns what `write` does; once more after making room if the disk is full.

    Args:
        folder: Holds one folder per entry. The least recently used go, but for those in
            use or used a moment ago.
        size_bytes: How much `write` needs.
        write: Leaves nothing behind when it fails.

    Raises:
        OSError: The disk is full all the same.
    """
    try:
        return write()
    except OSError as error:
        if error.errno not in _FULL or not _make_room(folder, size_bytes):
            raise
    return write()


def _make_room(folder: Path, size_bytes: int) -> bool:
    """Removes the least recently used entries; whether any of them went."""
    freed_bytes, removed = 0, False
    for entry in _list_oldest_first(folder):
        if freed_bytes >= size_bytes:
            break
        if _remove(entry):
            freed_bytes, removed = freed_bytes + entry.size_bytes, True
    return removed


def _list_oldest_first(folder: Path) -> list["_Entry"]:
    return sorted(_list_entries(folder), key=lambda entry: entry.used_at)


@dataclass(frozen=True)
class _Entry:
    folder: Path
    used_at: float
    size_bytes: int


def _list_entries(folder: Path) -> Iterator[_Entry]:
    for path in _folders(folder):
        with contextlib.suppress(FileNotFoundError):  # another sweep was here
            yield _measure(path)


def _measure(path: Path, *, but: str | None = None) -> _Entry:
    """Returns when `path` was last used and its size, but for the file named `but`."""
    used_at, size_bytes = 0.0, 0
    for parent, _, names in os.walk(path):
        for name in names:
            if name == but:
                continue
            with contextlib.suppress(FileNotFoundError):
                facts = os.lstat(Path(parent) / name)
                used_at = max(used_at, facts.st_mtime)
                # Rows that no view has are holes and take no space.
                size_bytes += facts.st_blocks * _BLOCK_BYTES
    return _Entry(path, used_at or path.stat().st_mtime, size_bytes)


def _folders(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in found if path.is_dir() and path.name[0] != "."]


def _remove(entry: _Entry) -> bool:
    try:
        is_new = _make_lock_file(entry.folder)
        lock = file_locks.try_lock(entry.folder / IN_USE, shared=False)
        if lock is None:
            return False
        with lock:
            # Others may have used it since it was listed.
            now = _measure(entry.folder, but=IN_USE if is_new else None)
            least = RECENT_SECONDS if lock.is_certain else UNLOCKED_SECONDS
            if now.used_at > entry.used_at or time.time() - now.used_at < least:
                return False
            # Renamed under the lock: who opens it now finds nothing.
            gone = entry.folder.with_name(f".gone-{secrets.token_hex(8)}")
            entry.folder.rename(gone)
    except OSError as error:
        if file_locks.is_gone(error):  # another sweep was here
            return False
        raise
    remove_tree(gone)
    return True


def _make_lock_file(folder: Path) -> bool:
    """Whether nobody has held `folder` yet: its lock is then as old as this sweep."""
    try:
        (folder / IN_USE).open("xb").close()
    except FileExistsError:
        return False
    return True


def _remove_leftovers(folder: Path) -> None:
    """Removes what a sweep that died had renamed away."""
    for path in folder.glob(".gone-*"):
        remove_tree(path)
