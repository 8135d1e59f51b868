"""Lines that outlive their process, and the files they tell of.

FOLDER/<run>/00000001.jsonl     digest, a header, one JSON object a line

1. Lines gather, with the files that they tell of.
2. Every two seconds those files are made durable, and then a segment with the lines: a
   new file, synced and renamed. A crash costs what came after it.
3. Whoever goes on reads the segments of earlier runs. One is whole or it is ignored,
   and so it is under another header: that is what its lines depend on.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from shared.durable_files import (
    fsync_file,
    fsync_folder,
    link_if_possible,
    write_atomically,
)
from worker.ingest.disk import is_unreadable

# A crash costs this much work at most; a segment costs two flushes of the disk.
_SEGMENT_SECONDS = 2.0
_MOST_IN_SEGMENT = 20_000
_SYNCERS = 8
_PIECE_BYTES = 2**20


class SegmentWriter:
    """Writes the segments of one run, beside whoever adds lines.

    Args:
        folder: Of this run alone.
        header: One line: what the others depend on.
        on_durable: Called with how many lines are durable.
    """

    def __init__(
        self, folder: Path, header: str, on_durable: Callable[[int], None]
    ) -> None:
        self._folder = folder
        self._header = header
        self._on_durable = on_durable
        self._lines: list[str] = []
        self._files: list[Path] = []
        self._segments = self._durable = 0
        self._next_at = time.monotonic() + _SEGMENT_SECONDS
        self._writer = ThreadPoolExecutor(1)
        self._writing: tuple[Future[None], int] | None = None

    def add(self, line: dict[str, Any], file: Path | None = None) -> None:
        """Takes one line, and the file it tells of, which is whole."""
        self._lines.append(json.dumps(line, separators=(",", ":")))
        if file is not None:
            self._files.append(file)
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Hands over what has gathered, if it is much or the last time is long ago."""
        is_due = time.monotonic() >= self._next_at
        if is_due or len(self._lines) >= _MOST_IN_SEGMENT:
            self._hand_over()

    def flush(self) -> None:
        """Returns when all that has gathered is durable."""
        self._hand_over()
        self._await_writer()

    def close(self, *, keep_rest: bool) -> None:
        """Returns when all is written.

        Args:
            keep_rest: Whether the last lines are made durable, too.
        """
        with self._writer:
            if keep_rest:
                self.flush()

    def _hand_over(self) -> None:
        """Hands over what has gathered; waits for the segment before it."""
        self._await_writer()
        self._next_at = time.monotonic() + _SEGMENT_SECONDS
        if not self._lines:
            return
        self._segments += 1
        path = self._folder / f"{self._segments:08d}.jsonl"
        body = "\n".join([self._header, *self._lines, ""])
        write = self._writer.submit(_write_segment, path, body, self._files)
        self._writing = write, len(self._lines)
        self._lines, self._files = [], []

    def _await_writer(self) -> None:
        if self._writing is None:
            return
        (written, count), self._writing = self._writing, None
        written.result()
        self._durable += count
        self._on_durable(self._durable)


def list_segments(folder: Path) -> list[Path]:
    """Returns the segments of all runs in `folder`, which need not be there."""
    try:
        return sorted(folder.glob("*/[0-9]*.jsonl"))
    except OSError:
        return []


def read_segment(path: Path, header: str) -> Iterator[dict[str, Any]]:
    """Yields the lines of a segment if it is whole and has this header."""
    try:
        digest, _, body = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return
    if digest != _digest(body):
        return
    found, *lines = body.splitlines()
    if found == header:
        yield from map(json.loads, lines)


def take_file(
    path: Path,
    target: Path,
    sha256: str,
    count: Callable[[int], None] = lambda _size_bytes: None,
) -> bool:
    """Links a file of an earlier run to `target`; False when it is not to be had.

    Args:
        path: Where it was; nobody changes it.
        target: Its new name; what lies there is removed.
        sha256: Of its bytes.
        count: Called with the bytes of each piece that was looked at; below zero when
            they are given back. May raise to end everything.

    Raises:
        OSError: Our own disk is full, for example.
    """
    looked_at = 0
    digest = hashlib.sha256()
    try:
        target.unlink(missing_ok=True)
        for piece in _read_and_take(path, target):
            digest.update(piece)
            looked_at += len(piece)
            count(len(piece))
        if digest.hexdigest() == sha256:
            return True
    except OSError as error:
        if not is_unreadable(error):
            raise
    count(-looked_at)
    # A new one must not be written through the link into the earlier folder.
    target.unlink(missing_ok=True)
    return False


def _read_and_take(path: Path, target: Path) -> Iterator[bytes]:
    """Links the file, or copies it where that fails; yields its bytes meanwhile."""
    with contextlib.ExitStack() as files:
        copy = None
        if not link_if_possible(path, target):
            copy = files.enter_context(target.open("xb"))
        source = files.enter_context(path.open("rb"))
        while piece := source.read(_PIECE_BYTES):
            if copy:
                copy.write(piece)
            yield piece


def _write_segment(path: Path, body: str, files: list[Path]) -> None:
    with ThreadPoolExecutor(_SYNCERS) as syncers:
        list(syncers.map(fsync_file, files))
    for folder in {file.parent for file in files}:
        fsync_folder(folder)
    with write_atomically(path) as temporary:
        temporary.write_text(f"{_digest(body)}\n{body}", encoding="utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
