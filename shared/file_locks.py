"""Advisory locks on files that any number of processes on any number of hosts share.

A lock dies with its holder. Its file may be removed or replaced between the opening and
the locking, and then the lock holds nothing: each is checked and, if need be, taken
again.
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import BinaryIO, Self

# What flock(2), and file systems under it, answer where locks are not to be had.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


class FileLock:
    """A lock that is held until it is closed.

    Args:
        stream: The locked file.
        is_certain: False where the file system has no locks: others may hold it, too.
    """

    def __init__(self, stream: BinaryIO, *, is_certain: bool) -> None:
        self._stream = stream
        self.is_certain = is_certain

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def touch(self) -> None:
        """Makes the file's time of change that of now: its holder lives."""
        os.utime(self._stream.fileno())

    def close(self) -> None:
        """Gives the lock up."""
        self._stream.close()


def try_lock(path: Path, *, shared: bool) -> FileLock | None:
    """Locks the file at `path`, which is made if it is not there.

    Args:
        path: Its folder exists.
        shared: Whether others may hold it, shared like this, at the same time.

    Returns:
        None when another holds it.

    Raises:
        OSError: The file cannot be opened; `is_gone` tells whether its folder has been
            removed.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        # Open for both: NFS turns these locks into those of fcntl(2), and there a
        # shared one needs a file that can be read, an exclusive one that is written.
        stream = path.open("a+b")
        is_certain = True
        try:
            fcntl.flock(stream, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            return None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                stream.close()
                raise
            is_certain = False
        if lies_at(stream, path):
            return FileLock(stream, is_certain=is_certain)
        stream.close()


def is_gone(error: OSError) -> bool:
    """Whether `error` says that a file or its folder has been removed."""
    return error.errno in _GONE


def lies_at(stream: BinaryIO, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False
