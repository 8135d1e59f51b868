"""A folder as a zip that is made while it is read: no copy of it on the disk.

Pictures are compressed already: storing them is as small and much faster.
"""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

BLOCK_BYTES = 1 << 20


def zip_folder(
    files: list[tuple[str, Path]], note: Callable[[int], object]
) -> Iterator[bytes]:
    """Yields the zip's bytes.

    Args:
        files: The name inside and the path of each.
        note: Called with the bytes of files that were packed since the last call.
    """
    sink = _Sink()
    # A file from before 1980, which a zip cannot say, is packed as one of 1980.
    with zipfile.ZipFile(
        sink,  # type: ignore[arg-type] - all that it needs of a stream
        "w",
        zipfile.ZIP_STORED,
        strict_timestamps=False,
    ) as archive:
        for name, path in files:
            info = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
            with path.open("rb") as source, archive.open(info, "w") as member:
                while block := source.read(BLOCK_BYTES):
                    member.write(block)
                    note(len(block))
                    yield sink.take()
    yield sink.take()


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
