"""What is known of pictures, kept durable so that no later attempt proves it again.

WORKDIR/proofs/<run>/
    00000001.jsonl              one picture a line (`worker/ingest/segments.py`)
    rewritten/00000/00000012.png

1. Children prove pictures and write their upright PNGs below `rewritten/`.
2. Every two seconds the PNGs written since are made durable, and then a segment that
   tells of them.
3. A later attempt reads the segments of earlier ones, and nothing else of theirs: an
   earlier host may only be frozen.

A proof is about bytes. It is taken over for a file with the same SHA-256, or, where the
file lies on the server and was not unpacked, for the same path with the same size and
time of change. A rewritten PNG is linked from the earlier attempt's folder once its
bytes have the digest that the segment names.
"""

import functools
import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from shared.artifacts import PROOFS
from worker.ingest.found import LabelledFile
from worker.ingest.segments import (
    SegmentWriter,
    list_segments,
    read_segment,
    take_file,
)

_FILES_PER_FOLDER = 1000
# Another try, in a calmer moment or on a larger machine, may end otherwise.
_PASSING_FAULTS = frozenset({"timeout", "out_of_memory", "unreadable"})
_DECIDING_SOURCES = ("../decode.py", "file_kinds.py", "plain_decode.py", "prove.py")
_DECIDING_PACKAGES = ("tensorflow", "tensorflow-cpu", "pillow", "pillow-heif")


@dataclass(slots=True)
class Known:
    """What became of one file.

    Args:
        proof: A `prove.Proof` as mapping; None when the file is left out.
        fault: (code, reason) of a file that is left out.
    """

    proof: dict[str, Any] | None = None
    fault: tuple[str, str] | None = None


class Journal:
    """Keeps what this run proves; a context that is left when all of it is durable.

    Args:
        workdir: The attempt's folder.
        max_pixels: The limit under which pictures are proved.
        on_durable: Called with how many proofs are durable, those taken over included.
    """

    def __init__(
        self,
        workdir: Path,
        max_pixels: int,
        on_durable: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._folder = workdir / PROOFS / uuid.uuid4().hex[:8]
        self._on_durable = on_durable
        self.taken = 0
        self._segments = SegmentWriter(
            self._folder, _build_header(max_pixels), self._tell
        )
        self._folder.mkdir(parents=True)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Makes the last proofs durable, unless something failed."""
        self._segments.close(keep_rest=kind is None)

    def rewritten_path(self, number: int) -> Path:
        """Where the upright PNG of the file `number` goes; its folder is there."""
        folder = self._folder / "rewritten" / f"{number // _FILES_PER_FOLDER:05d}"
        _make_folder(folder)
        return folder / f"{number:08d}.png"

    def add(self, number: int, file: LabelledFile, known: Known) -> None:
        """Keeps what became of one file, where a later attempt may rely on it."""
        line = _build_line(file, known)
        if line is None:
            return
        png = None
        if known.proof and known.proof["rewritten"]:
            png = self.rewritten_path(number)
            line["png"] = png.relative_to(self._folder).as_posix()
        self._segments.add(line, png)

    def _tell(self, durable: int) -> None:
        self._on_durable(self.taken + durable)


def take_over(
    files: list[LabelledFile],
    workdirs: Iterable[Path],
    journal: Journal,
    max_pixels: int,
) -> Iterator[tuple[int, Known]]:
    """Yields what earlier attempts have found out about `files`, each file once.

    Args:
        files: Everything with a label.
        workdirs: Folders of earlier attempts; what is missing or torn is ignored.
        journal: Gets the rewritten PNGs of what is taken over, under this run's names.
        max_pixels: The limit that holds now; proofs under another one do not count.

    Yields:
        (position in `files`, what became of it).
    """
    segments = [path for one in workdirs for path in list_segments(one / PROOFS)]
    positions = _index(files) if segments else {}
    header = _build_header(max_pixels)
    for segment in segments:
        for line in read_segment(segment, header):
            for position in _find(line, positions):
                if _take_png(line, segment, journal, position):
                    journal.taken += 1
                    yield position, _parse(line)


def _find(
    line: dict[str, Any],
    positions: dict[bytes | str, list[int]],
) -> list[int]:
    """Which files a line is about; no later line is asked about them again."""
    digest = line.get("sha256") or line["proof"]["sha256"]
    found = positions.pop(bytes.fromhex(digest), [])
    path = line.get("path")
    if path in positions and _is_unchanged(path, line["proof"]):
        found += positions.pop(path)
    return found


def _build_line(file: LabelledFile, known: Known) -> dict[str, Any] | None:
    if known.proof is not None:
        path = None if file.file.sha256 else str(file.file.path)
        return {"proof": known.proof, "path": path}
    if known.fault is None or known.fault[0] in _PASSING_FAULTS:
        return None
    if file.file.sha256 is None:  # nobody can say which bytes it was about
        return None
    return {"fault": known.fault, "sha256": file.file.sha256.hex()}


def _parse(line: dict[str, Any]) -> Known:
    if "fault" in line:
        code, reason = line["fault"]
        return Known(fault=(code, reason))
    return Known(proof=line["proof"])


def _index(files: list[LabelledFile]) -> dict[bytes | str, list[int]]:
    positions: dict[bytes | str, list[int]] = defaultdict(list)
    for position, labelled in enumerate(files):
        positions[labelled.file.sha256 or str(labelled.file.path)].append(position)
    return dict(positions)


def _is_unchanged(path: str, proof: dict[str, Any]) -> bool:
    try:
        facts = Path(path).stat()
    except OSError:
        return False
    then = proof["size_bytes"], proof["mtime_ns"]
    return (facts.st_size, facts.st_mtime_ns) == then


def _take_png(
    line: dict[str, Any], segment: Path, journal: Journal, position: int
) -> bool:
    """Links the rewritten PNG, if there is one; False when it is not to be had."""
    if "png" not in line:
        return True
    path, target = segment.parent / line["png"], journal.rewritten_path(position)
    return take_file(path, target, line["proof"]["rewritten_sha256"])


@functools.cache
def _make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


@functools.cache
def _build_header(max_pixels: int) -> str:
    """What a proof depends on beside the file: the limit, our code, the decoders."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for name in _DECIDING_SOURCES:
        digest.update((here / name).read_bytes())
    facts = {
        "proofs": 1,
        "max_pixels": max_pixels,
        "code": digest.hexdigest(),
        "packages": {name: _find_version(name) for name in _DECIDING_PACKAGES},
    }
    return json.dumps(facts, sort_keys=True)


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
