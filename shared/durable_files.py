"""How one file becomes visible, and stays: write, fsync, rename, fsync the folder.

No framework and no database here, so child processes use it too.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

# What link(2), and file systems under it, answer where hard links are not to be had.
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
# Of another file system, or when a file has all the names that it may have.
_NO_LINK_HERE = (*_NO_LINKS, errno.EXDEV, errno.EMLINK)


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yields a temporary path; on success its content becomes durable at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}"[:200])
    try:
        yield temporary
        fsync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def publish_file(temporary: Path, final: Path) -> bool:
    """Makes `temporary` durable and visible as `final`, unless something is there.

    What another process may have opened or mapped is never replaced: the first stays.

    Args:
        temporary: A whole file, on the same file system; it is gone afterwards.
        final: Its name.

    Returns:
        Whether it is `temporary` that lies there.
    """
    fsync_file(temporary)
    try:
        is_ours = _rename_if_absent(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(final.parent)
    return is_ours


def link_or_copy(source: Path, target: Path) -> None:
    """Gives a file that nobody changes a second name, or copies it where that fails.

    Args:
        source: An immutable file.
        target: Its new name; not there yet.

    Raises:
        FileExistsError: When something else lies at `target`.
    """
    if not link_if_possible(source, target):
        shutil.copyfile(source, target)


def link_if_possible(source: Path, target: Path) -> bool:
    """Gives a file a second name; False where the file system has no links.

    Args:
        source: An immutable file.
        target: Its new name; not there yet.

    Raises:
        FileExistsError: When something else lies at `target`.
    """
    try:
        target.hardlink_to(source)
    except FileExistsError:
        # An NFS server may repeat a link that it has made.
        if not target.samefile(source):
            raise
    except OSError as error:
        if error.errno not in _NO_LINK_HERE:
            raise
        return False
    return True


def fsync_file(path: Path) -> None:
    """Returns when the content of `path` is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def fsync_folder(path: Path) -> None:
    """Returns when the names in `path` are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename_if_absent(temporary: Path, final: Path) -> bool:
    try:
        final.hardlink_to(temporary)
    except FileExistsError:
        # An NFS server may repeat a link that it has made.
        return final.samefile(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without hard links two that look in the same instant may both rename.
        if final.exists():
            return False
        temporary.replace(final)
    return True
