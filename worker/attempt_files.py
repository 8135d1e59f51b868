"""The folder of one attempt: only this attempt ever writes there.

jobs/<job_id>/attempts/<fence>-<uuid8>/
    spec.json   what the child was asked to do
    log.jsonl   its events and the worker's notes, one JSON object a line
    stdout.log  stderr.log  whatever it printed
    ckpt/       final/      written by the child
    scratch/    proofs/     of an ingest: what it works with, and what it has proved
                            and fetched
"""

import json
from pathlib import Path
from typing import Any

import structlog

from shared.artifacts import PROOFS, list_scratch, remove_tree

log = structlog.get_logger()

MOST_LOG_BYTES = 64 << 20
ERROR_TAIL_BYTES = 64 << 10


class AttemptFiles:
    """Makes and names what lies in an attempt's folder.

    Args:
        storage_root: Absolute folder of shared storage.
        folder: The attempt's folder, below it.
    """

    def __init__(self, storage_root: Path, folder: Path) -> None:
        self._storage_root = storage_root
        self.folder = folder
        self._log_bytes = 0

    def make(self) -> None:
        """Makes the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def final(self) -> Path:
        """Where the child leaves its result."""
        return self.folder / "final"

    def write_spec(self, spec: dict[str, Any]) -> Path:
        """Writes what the child shall do and returns where."""
        path = self.folder / "spec.json"
        path.write_text(json.dumps(spec, indent=2))
        return path

    def log(self, line: dict[str, Any]) -> None:
        """Appends one line to the attempt's log, up to 64 MiB in all.

        A log that cannot be written is no reason to lose a training.
        """
        if self._log_bytes > MOST_LOG_BYTES:
            return
        text = json.dumps(line, separators=(",", ":")) + "\n"
        self._log_bytes += len(text)
        try:
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(text)
        except OSError as error:
            log.warning("attempt_log_failed", error=str(error))

    def read_error_tail(self) -> str | None:
        """Returns the last 64 KiB of what the child wrote to standard error."""
        try:
            with (self.folder / "stderr.log").open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - ERROR_TAIL_BYTES))
                tail = file.read().decode(errors="replace").replace("\0", "")
        except OSError:
            return None
        return tail or None

    def remove_workings(self, *, keep_proofs: bool) -> None:
        """Removes what an ingest has left that has ended, so that the disk is free.

        Args:
            keep_proofs: Whether another attempt may take them over.
        """
        proofs = [] if keep_proofs else [self.folder / PROOFS]
        try:
            for path in [*list_scratch(self.folder), *proofs]:
                remove_tree(path)
        except OSError as error:  # the collection of garbage comes by later
            log.warning("attempt_workings_left", error=str(error))

    def inside(self, path: str) -> Path:
        """Returns `path`, which the child named, if it lies in this folder.

        Raises:
            ValueError: When it does not: a child may only speak of its own files.
        """
        found = Path(path).resolve()
        if not found.is_relative_to(self.folder.resolve()):
            raise ValueError(f"{path} is outside the attempt's folder")
        return found

    def storage_path(self, path: Path) -> str:
        """Returns `path` relative to shared storage, as the records keep it.

        Raises:
            ValueError: When it lies outside.
        """
        root = self._storage_root.resolve()
        return path.resolve().relative_to(root).as_posix()
