"""A zip written into a response as it is read: memory stays flat, nothing on disk.

Members are stored, not compressed: SavedModel archives are zips already.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 18
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
