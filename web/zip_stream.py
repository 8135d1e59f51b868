"""A zip written into a response as it is read: memory stays flat, nothing on disk.

Members are stored, not compressed: SavedModel archives are zips already.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 18
# Lengths of a zip's own records; the large ones come on top beyond 4 GiB.
HEADER_BYTES, LARGE_HEADER_BYTES = 30, 20
DESCRIPTOR_BYTES, LARGE_DESCRIPTOR_BYTES = 16, 8
ENTRY_BYTES, EXTRA_BYTES = 46, 4
END_BYTES, LARGE_END_BYTES = 22, 76
EARLIEST = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Member:
    """One file of the zip.

    Args:
        name: Its name inside.
        path: Where its bytes lie.
    """

    name: str
    path: Path


class _Sink:
    """Takes what `zipfile` writes and gives it out again; cannot seek."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def measure_zip(members: list[Member]) -> int:
    """Returns how many bytes `stream_zip` yields, without reading the files.

    Nothing is compressed, so each part's length follows from names and sizes.
    """
    position, directory = 0, 0
    for member in members:
        name, content = len(member.name.encode()), member.path.stat().st_size
        # `zipfile` decides before it has seen the end, so with some room.
        large = content * 1.05 > zipfile.ZIP64_LIMIT
        wide = 16 * (content > zipfile.ZIP64_LIMIT) + 8 * (
            position > zipfile.ZIP64_LIMIT
        )
        directory += ENTRY_BYTES + name + (wide + EXTRA_BYTES if wide else 0)
        position += HEADER_BYTES + name + content + DESCRIPTOR_BYTES
        position += (LARGE_HEADER_BYTES + LARGE_DESCRIPTOR_BYTES) * large
    large = max(position, directory) > zipfile.ZIP64_LIMIT
    large = large or len(members) > zipfile.ZIP_FILECOUNT_LIMIT
    return position + directory + END_BYTES + LARGE_END_BYTES * large


def stream_zip(members: list[Member]) -> Iterator[bytes]:
    """Yields the bytes of a zip of `members`, in order."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:  # type: ignore[call-overload]
        for member in members:
            info = zipfile.ZipInfo(member.name, EARLIEST)
            info.external_attr = 0o644 << 16
            info.file_size = member.path.stat().st_size
            with member.path.open("rb") as source, archive.open(info, "w") as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
                    yield sink.take()
    yield sink.take()
