"""Failing files: one that is left out, a source that is refused, our own disk.

A file of the user's that cannot be read stays so, whoever tries again, and must not
hold up the others. Where our own disk fails another attempt may do better, and a full
one is told while there is still room for everybody else.
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from shared.artifacts import LOOK_BYTES, RESERVE_BYTES
from shared.errors import UserError

# Rights, links in a circle, names that are too long, bad sectors, a file server that
# has lost the file: of this one file, whatever becomes of the next.
_UNREADABLE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM}
    | {errno.ELOOP, errno.ENAMETOOLONG, errno.EIO, errno.ESTALE}
)


class OwnDiskError(OSError):
    """What ingest itself writes could not be written."""


def is_unreadable(error: OSError) -> bool:
    """Whether `error` says that a file of the user's cannot be read."""
    return error.errno in _UNREADABLE and not isinstance(error, OwnDiskError)


def unreadable_reason(error: OSError) -> str:
    """Says why a file or folder is left out that could not be read."""
    return f"It cannot be read: {error.strerror}."


def refuse_source(name: str, error: OSError) -> UserError:
    """Builds the refusal of a whole source that could not be read.

    Args:
        name: The user's name for it.
        error: What reading it met.
    """
    return UserError(
        f"“{name}” cannot be read: {error.strerror}. See that the worker has the right "
        "to read it and that its disk is well, then add it again.",
        field="sources",
    )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says of whatever fails meanwhile that our own disk did, at `path`."""
    try:
        yield
    except OwnDiskError:
        raise
    except OSError as error:
        where = error.filename or str(path)
        raise OwnDiskError(error.errno, error.strerror or str(error), where) from error


class Reserve:
    """Looks, while files are written, whether the disk keeps room for everybody else.

    Several threads may count: what they lose to each other only makes a look late.

    Args:
        folder: Where they are written; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unseen_bytes = LOOK_BYTES  # so that the first look comes at once

    def count(self, size_bytes: int) -> None:
        """Counts what is about to be written; looks at every 64 MiB of it.

        Raises:
            OwnDiskError: When the disk is nearly full.
        """
        self._unseen_bytes += max(0, size_bytes)
        if self._unseen_bytes >= LOOK_BYTES:
            self._unseen_bytes = 0
            self.require(0)

    def require(self, size_bytes: int) -> None:
        """Returns when so much fits beside the reserve.

        Raises:
            OwnDiskError: When it does not.
        """
        there = next(p for p in (self._folder, *self._folder.parents) if p.exists())
        free = shutil.disk_usage(there).free
        if free >= size_bytes + RESERVE_BYTES:
            return
        mebibytes = -(-size_bytes // 2**20)
        needed = f", about {mebibytes:,} MiB are needed" if size_bytes else ""
        raise OwnDiskError(
            errno.ENOSPC,
            f"the disk is nearly full: {free >> 20:,} MiB are free{needed} and "
            f"{RESERVE_BYTES >> 20} MiB must stay free. Delete datasets or models that "
            "are no longer needed",
        )
