"""What is known of pictures, kept durable so that no later attempt proves it again.

WORKDIR/proofs/<run>/
    00000001.jsonl              digest, what the proofs depend on, one picture a line
    rewritten/00000/00000012.png

1. Children prove pictures and write their upright PNGs below `rewritten/`.
2. Every two seconds the PNGs written since are made durable, and then a segment that
   tells of them: a new file, synced and renamed. A crash costs what came after it.
3. A later attempt reads the segments of earlier ones, and nothing else of theirs: an
   earlier host may only be frozen. A segment is whole or it is ignored.

A proof is about bytes. It is taken over for a file with the same SHA-256, or, where the
file lies on the server and was not unpacked, for the same path with the same size and
time of change. A rewritten PNG is linked from the earlier attempt's folder once its
bytes have the digest that the segment names.
"""

import functools
import hashlib
import json
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from shared.artifacts import PROOFS, sha256_file
from shared.durable_files import (
    fsync_file,
    fsync_folder,
    link_or_copy,
    write_atomically,
)
from worker.ingest.disk import is_unreadable
from worker.ingest.found import LabelledFile

# A crash costs this much work at most; a segment costs two flushes of the disk.
_SEGMENT_SECONDS = 2.0
_MOST_IN_SEGMENT = 20_000
_FILES_PER_FOLDER = 1000
_SYNCERS = 8
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
        self._header = _build_header(max_pixels)
        self._on_durable = on_durable
        self.taken = 0
        self._lines: list[str] = []
        self._rewritten: list[Path] = []
        self._segments = self._durable = 0
        self._next_at = time.monotonic() + _SEGMENT_SECONDS
        self._writer = ThreadPoolExecutor(1)
        self._writing: tuple[Future[None], int] | None = None
        self._folder.mkdir(parents=True)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Makes the last proofs durable, unless something failed."""
        with self._writer:
            if kind is None:
                self._flush()
                self._await_writer()

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
        if known.proof and known.proof["rewritten"]:
            path = self.rewritten_path(number)
            line["png"] = path.relative_to(self._folder).as_posix()
            self._rewritten.append(path)
        self._lines.append(json.dumps(line, separators=(",", ":")))
        is_due = time.monotonic() >= self._next_at
        if is_due or len(self._lines) >= _MOST_IN_SEGMENT:
            self._flush()

    def _flush(self) -> None:
        """Hands over what has gathered; waits for the segment before it."""
        self._await_writer()
        self._next_at = time.monotonic() + _SEGMENT_SECONDS
        if not self._lines:
            return
        self._segments += 1
        path = self._folder / f"{self._segments:08d}.jsonl"
        body = "\n".join([self._header, *self._lines, ""])
        write = self._writer.submit(_write_segment, path, body, self._rewritten)
        self._writing = write, len(self._lines)
        self._lines, self._rewritten = [], []

    def _await_writer(self) -> None:
        if self._writing is None:
            return
        (written, count), self._writing = self._writing, None
        written.result()
        self._durable += count
        self._on_durable(self.taken + self._durable)


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
    segments = [path for folder in workdirs for path in _list_segments(folder)]
    positions = _index(files) if segments else {}
    for segment in segments:
        for line in _read_segment(segment, max_pixels):
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
    try:
        target.unlink(missing_ok=True)
        link_or_copy(path, target)
        if sha256_file(target) == line["proof"]["rewritten_sha256"]:
            return True
    except OSError as error:
        if not is_unreadable(error):  # our own disk is full, for example
            raise
    # A new one must not be written through the link into the earlier folder.
    target.unlink(missing_ok=True)
    return False


def _list_segments(workdir: Path) -> list[Path]:
    try:
        return sorted((workdir / PROOFS).glob("*/[0-9]*.jsonl"))
    except OSError:
        return []


def _read_segment(path: Path, max_pixels: int) -> Iterator[dict[str, Any]]:
    """Yields the lines of a segment that was made under today's rules and is whole."""
    try:
        digest, _, body = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return
    if digest != _digest(body):
        return
    header, *lines = body.splitlines()
    if header == _build_header(max_pixels):
        yield from map(json.loads, lines)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_segment(path: Path, body: str, rewritten: list[Path]) -> None:
    with ThreadPoolExecutor(_SYNCERS) as syncers:
        list(syncers.map(fsync_file, rewritten))
    for folder in {file.parent for file in rewritten}:
        fsync_folder(folder)
    with write_atomically(path) as temporary:
        temporary.write_text(f"{_digest(body)}\n{body}", encoding="utf-8")


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
