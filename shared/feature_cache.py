"""Who uses a cached entry of features, and which entries go when there are too many.

Any number of processes on any number of hosts share the folder, one folder an entry:

1. Who reads or computes an entry holds a shared advisory lock on its `in-use` file. The
   lock dies with its holder, and taking it touches the file: access times lie, since
   most systems write them rarely or never.
2. The sweep takes the exclusive lock, so what is in use stays: to remove a file under a
   mapped array ends its reader on NFS. It then renames the folder away, so that nobody
   opens half of it, and removes that.

An entry is a cache and is computed again on need.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shared.artifacts import remove_tree

IN_USE = "in-use"

# Where the file system has no locks, only time tells that a reader has gone.
UNLOCKED_SECONDS = 24 * 3600
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system (stat(2))


def hold(entry: Path) -> BinaryIO | None:
    """Keeps the sweep from `entry` until the returned file is closed.

    Returns:
        None when there is no such folder, or when it is being removed.
    """
    try:
        lock = (entry / IN_USE).open("ab")
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return None
        raise
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    except OSError:
        pass  # a file system without locks: its touch protects it for a day
    with contextlib.suppress(OSError):
        os.utime(lock.fileno())
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
        The entries that were removed; those in use stay, even above the limit.
    """
    _remove_leftovers(folder)
    entries = sorted(_list_entries(folder), key=lambda entry: entry.used_at)
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


@dataclass(frozen=True)
class _Entry:
    folder: Path
    used_at: float
    size_bytes: int


def _list_entries(folder: Path) -> Iterator[_Entry]:
    for path in _folders(folder):
        used_at, size_bytes = 0.0, 0
        for parent, _, names in os.walk(path):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    facts = os.lstat(Path(parent) / name)
                    used_at = max(used_at, facts.st_mtime)
                    # Rows that no view has are holes and take no space.
                    size_bytes += facts.st_blocks * _BLOCK_BYTES
        with contextlib.suppress(FileNotFoundError):
            yield _Entry(path, used_at or path.stat().st_mtime, size_bytes)


def _folders(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in found if path.is_dir() and path.name[0] != "."]


def _remove(entry: _Entry) -> bool:
    with _alone(entry) as is_ours:
        if not is_ours:
            return False
        # Renamed under the lock: who opens it now finds nothing.
        gone = entry.folder.with_name(f".gone-{secrets.token_hex(8)}")
        try:
            entry.folder.rename(gone)
        except FileNotFoundError:  # another sweep was here
            return False
    remove_tree(gone)
    return True


@contextlib.contextmanager
def _alone(entry: _Entry) -> Iterator[bool]:
    try:
        lock = (entry.folder / IN_USE).open("r+b")
    except FileNotFoundError:  # nobody has held it yet
        yield True
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            yield time.time() - entry.used_at > UNLOCKED_SECONDS
            return
        yield True


def _remove_leftovers(folder: Path) -> None:
    """Removes what a sweep that died had renamed away."""
    for path in folder.glob(".gone-*"):
        remove_tree(path)
