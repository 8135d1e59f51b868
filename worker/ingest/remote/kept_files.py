"""What was fetched whole, kept so that no later attempt of the job fetches it again.

WORKDIR/scratch/fetched/00000/00000012          where a file arrives
WORKDIR/proofs/fetched/<run>/00000/00000012     where it stays once it is whole
WORKDIR/proofs/fetched/<run>/00000001.jsonl     which address it is from

It lies among the proofs because it lives as long: until the job has ended, or a full
disk needs the room. Only what a segment tells of counts (`worker/ingest/segments.py`).
A later attempt links it, and compares its bytes with the digest; nothing in an earlier
folder is written, moved or removed, whose host may only be frozen.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Self

from shared.artifacts import PROOFS, SCRATCH
from shared.source_addresses import Address
from worker.ingest.disk import writing
from worker.ingest.remote.download import Fetched, Terms
from worker.ingest.segments import (
    SegmentWriter,
    list_segments,
    read_segment,
    take_file,
)

_FETCHED = "fetched"
_HEADER = json.dumps({_FETCHED: 1})
_FILES_PER_FOLDER = 1000


class KeptFiles:
    """The fetched files of one attempt; a context that is left when they are durable.

    Args:
        workdir: The attempt's folder.
        earlier: Folders of earlier attempts, the newest first; what is missing or torn
            is ignored.
        on_durable: Called with how many files are durable, those taken over included.
    """

    def __init__(
        self,
        workdir: Path,
        earlier: Iterable[Path] = (),
        on_durable: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self.arriving = workdir / SCRATCH / _FETCHED
        self._known = _index(earlier)
        self._folder = workdir / PROOFS / _FETCHED / uuid.uuid4().hex[:8]
        self._segments = SegmentWriter(self._folder, _HEADER, self._tell)
        self._on_durable = on_durable
        self._made = self._durable = self.taken = 0

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Makes the last files durable, unless our own disk failed.

        A server that fails is what they are kept for.
        """
        self._segments.close(keep_rest=kind is None or not issubclass(kind, OSError))
        if self.taken:
            self._tell(self._durable)

    def new_path(self) -> Path:
        """Where the next file may arrive; its folder is there."""
        self._made += 1
        path = self.arriving / _place(self._made)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def find(self, address: Address, path: Path, terms: Terms) -> Fetched | None:
        """Puts what an earlier attempt has fetched to `path`; several threads may ask.

        Args:
            address: Where it is from.
            path: As `new_path` gave it.
            terms: Of the file; its bytes are counted as they are looked at, which of a
                large one takes long.

        Raises:
            OSError: The disk is full.
        """
        known = self._known.pop(_digest(address), None)
        if known is None or known.size_bytes > terms.most_bytes:
            return None
        sha256 = known.sha256.hex()
        if not take_file(known.folder / known.name, path, sha256, terms.count):
            return None
        return Fetched(path, known.size_bytes, sha256, is_known=True)

    def add(self, address: Address, fetched: Fetched) -> Fetched:
        """Keeps a file that has come whole; returns it as it lies now."""
        if fetched.is_known:
            self.taken += 1
            self.flush_if_due()
            return fetched
        name = fetched.path.relative_to(self.arriving)
        path = self._folder / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            fetched.path.rename(path)
        line = {
            "address": _digest(address).hex(),
            "file": name.as_posix(),
            "size_bytes": fetched.size_bytes,
            "sha256": fetched.sha256,
        }
        self._segments.add(line, path)
        return Fetched(path, fetched.size_bytes, fetched.sha256)

    def flush(self) -> None:
        """Returns when all that has come is durable."""
        self._segments.flush()

    def flush_if_due(self) -> None:
        """Makes durable what has come, also while the next file takes its time."""
        self._segments.flush_if_due()

    def _tell(self, durable: int) -> None:
        self._durable = durable
        self._on_durable(self.taken + durable)


class _Known(NamedTuple):
    """A file that an earlier attempt has fetched; there may be a million of them."""

    folder: Path
    name: str
    size_bytes: int
    sha256: bytes


def _index(workdirs: Iterable[Path]) -> dict[bytes, _Known]:
    """What is kept in these folders; the first one that has a file counts."""
    known: dict[bytes, _Known] = {}
    for workdir in workdirs:
        for segment in list_segments(workdir / PROOFS / _FETCHED):
            folder = segment.parent
            for line in read_segment(segment, _HEADER):
                file = _Known(
                    folder,
                    line["file"],
                    line["size_bytes"],
                    bytes.fromhex(line["sha256"]),
                )
                known.setdefault(bytes.fromhex(line["address"]), file)
    return known


def _digest(address: Address) -> bytes:
    """Stands for an address: what is behind its `?` may be secret, and is not kept."""
    return hashlib.sha256(f"{address}\n{address.query}".encode()).digest()


def _place(number: int) -> Path:
    return Path(f"{number // _FILES_PER_FOLDER:05d}", f"{number:08d}")
