"""A folder as a zip that is made while it is read: no copy of it on the disk.

Pictures are compressed already: storing them is as small and much faster.
"""

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cli.local_files import explained, read_blocks

_IS_UTF8 = 0x800  # the flag of an entry that vouches for the encoding of its name


def zip_folder(
    files: list[tuple[str, Path]], note: Callable[[int], object]
) -> Iterator[bytes]:
    """Yields the zip's bytes.

    Args:
        files: The name inside and the path of each.
        note: Called with the bytes of files that were packed since the last call.

    Raises:
        UserError: When a file cannot be read.
    """
    sink = _Sink()
    vouches = all(_is_utf8(name) for name, _ in files)
    # A file from before 1980, which a zip cannot say, is packed as one of 1980.
    with zipfile.ZipFile(
        sink,  # type: ignore[arg-type] - all that it needs of a stream
        "w",
        zipfile.ZIP_STORED,
        strict_timestamps=False,
    ) as archive:
        for name, path in files:
            with explained(path):
                entry = _Entry.from_file(path, name, strict_timestamps=False)
            entry.vouches = vouches
            with archive.open(entry, "w") as member:
                for block in read_blocks(path):
                    member.write(block)
                    note(len(block))
                    yield sink.take()
    yield sink.take()


def _is_utf8(name: str) -> bool:
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return False
    return True


class _Entry(zipfile.ZipInfo):
    """An entry whose name is written byte for byte as the file system has it.

    Of names in an old encoding nobody here knows which one. The server finds out, from
    all names of a zip that vouches for none.
    """

    vouches = False

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - zipfile's own name
        flag = _IS_UTF8 if self.vouches else 0
        return os.fsencode(self.filename), self.flag_bits | flag


class _Sink:
    """A stream that cannot seek and keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, part: bytes) -> int:
        self._parts.append(bytes(part))
        return len(part)

    def flush(self) -> None:
        """Nothing waits."""

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken
