"""Saves and finds the complete resumable state of a training.

How a checkpoint is written, so that a power cut at any moment leaves either the whole
of it or none:
  1. Every file goes into a new folder, `.tmp-<step>-<random>`.
  2. Each is flushed to the disk, and MANIFEST.json with their digests last.
  3. The folder is renamed to `<step>`, and the rename flushed.
  4. It is read back and verified.
  5. Only then is it reported; under a supervisor it exists once its row does.
The one before it is never touched until then. A full disk costs this checkpoint, not
the training.
"""

import contextlib
import errno
import json
import re
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared import artifacts
from worker import events
from worker.training.named_arrays import Arrays, NamedArray
from worker.training.request import Candidate, Request
from worker.training.training_state import TrainingState

PERIODIC, EMERGENCY = "periodic", "emergency"

_FOLDER_NAME = re.compile(r"\d{12}(-\d+)?")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_KEPT_WHEN_ALONE = 3
_UNREADABLE = (
    artifacts.CorruptFolderError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Stored:
    """A checkpoint that was read and verified."""

    path: Path
    state: TrainingState
    arrays: Arrays


class CheckpointWriter:
    """Writes the checkpoints of one attempt.

    Args:
        folder: Where they go, one folder each; made when absent.
        facts: Written into every manifest: `spec_sha`, `fence`, `versions`.
        prune: Whether to remove all but the newest three, as a run without a
            database must; a supervisor's reconciler removes them by their rows.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], *, prune: bool) -> None:
        self._folder = folder
        self._facts = facts
        self._prune = prune
        self._last_bytes = 0
        self._last_place: tuple[str, int] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def save(self, state: TrainingState, arrays: Arrays, *, kind: str) -> bool:
        """Saves `state` and `arrays` durably and reports them.

        Returns:
            False when the disk is full: the page is told, the previous checkpoint is
            intact, and training may go on.

        Raises:
            OSError: For any other failure of the storage.
        """
        place = (state.phase, state.step)
        if place == self._last_place:
            return True
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < 2 * self._last_bytes:
            self._skip(state, f"{free_bytes / 2**20:.0f} MiB are free")
            return False
        try:
            path, manifest_sha = self._write(state, arrays)
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            self._skip(state, str(error.strerror))
            return False
        except artifacts.CorruptFolderError as error:
            raise OSError(
                errno.EIO, f"a new checkpoint reads back wrong: {error}"
            ) from error
        self._last_place = place
        self._last_bytes = sum(file.stat().st_size for file in path.iterdir())
        events.emit(
            "checkpoint",
            step=state.step,
            kind=kind,
            path=str(path.absolute()),
            manifest_sha=manifest_sha,
            bytes=self._last_bytes,
            metric=state.best.value if state.best else None,
        )
        if self._prune:
            self._remove_old()
        return True

    def _write(self, state: TrainingState, arrays: Arrays) -> tuple[Path, str]:
        temporary = self._folder / f".tmp-{state.step}-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        try:
            _write_files(temporary, state, arrays)
            manifest_sha = artifacts.write_manifest(
                temporary,
                step=state.step,
                phase=state.phase,
                epoch=state.epoch,
                batch=state.batch,
                **self._facts,
            )
            path = self._free_name(state.step)
            artifacts.publish_folder(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        artifacts.verify_manifest(path, manifest_sha)
        return path, manifest_sha

    def _free_name(self, step: int) -> Path:
        """One step may be saved twice, as the end of a phase and as its finish."""
        path, tries = self._folder / f"{step:012d}", 0
        while path.exists():
            tries += 1
            path = self._folder / f"{step:012d}-{tries}"
        return path

    def _skip(self, state: TrainingState, why: str) -> None:
        events.note(
            "warning",
            f"The checkpoint at step {state.step} was skipped because the disk is "
            f"full ({why}). Training goes on; earlier checkpoints are intact.",
        )

    def _remove_old(self) -> None:
        for path in list_checkpoints(self._folder)[_KEPT_WHEN_ALONE:]:
            shutil.rmtree(path, ignore_errors=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the published checkpoints in `folder`, newest first."""
    if not folder.is_dir():
        return []
    names = [path for path in folder.iterdir() if _FOLDER_NAME.fullmatch(path.name)]
    return sorted(names, key=_place_in_order, reverse=True)


def find_newest(request: Request) -> Stored | None:
    """Returns the newest checkpoint of this spec whose files verify.

    A damaged one is reported and kept for inspection, and the one before it is taken;
    either way the job's page is told what was lost.
    """
    damaged = []
    for candidate in _candidates(request):
        try:
            stored = _load(candidate, request)
        except _UNREADABLE as error:
            reason = str(error) or type(error).__name__
            damaged.append(candidate.path.name)
            events.emit("checkpoint_corrupt", path=str(candidate.path), reason=reason)
            if request.runs_alone:
                _set_aside(candidate.path, "damaged")
            continue
        if stored is not None:
            _tell_fallback(damaged, f"training resumes at step {stored.state.step}")
            return stored
    _tell_fallback(damaged, "none is whole, so training starts from the beginning")
    return None


def tell_start(request: Request, stored: Stored | None) -> None:
    """Reports the step that training goes on from.

    Step 0 too, when there were checkpoints and none could be used: the record then
    forgets the curve beyond it and counts progress from there.
    """
    if stored is not None:
        state = stored.state
        events.emit(
            "resumed", step=state.step, path=str(stored.path), phase=state.phase
        )
    elif request.resume_from:
        events.emit("resumed", step=0)


def set_aside_all(request: Request) -> None:
    """Keeps the checkpoints in the working folder out of the way of a new training.

    Under a supervisor they have their rows, and nothing is done.
    """
    if request.runs_alone:
        for path in list_checkpoints(request.workdir / "ckpt"):
            _set_aside(path, "other")


def _candidates(request: Request) -> Iterator[Candidate]:
    if request.resume_from is not None:
        yield from request.resume_from
        return
    for path in list_checkpoints(request.workdir / "ckpt"):
        yield Candidate(path, None)


def _load(candidate: Candidate, request: Request) -> Stored | None:
    # On a network folder another host's new files may be hidden for a while.
    appear_seconds = 0.0 if request.runs_alone else request.missing_checkpoint_seconds
    facts = artifacts.verify_manifest(
        candidate.path, candidate.manifest_sha, appear_seconds=appear_seconds
    )
    if facts["spec_sha"] != request.spec_sha:
        events.note(
            "warning",
            f"The checkpoint {candidate.path.name} belongs to another training spec "
            "and is left alone.",
        )
        if request.runs_alone:
            _set_aside(candidate.path, "other")
        return None
    described = json.loads((candidate.path / "state.json").read_text())
    arrays = _read_arrays(candidate.path / "arrays.npz", described["arrays"])
    state = TrainingState.from_json(described["state"])
    return Stored(candidate.path, state, arrays)


def _set_aside(path: Path, why: str) -> None:
    """Keeps it for inspection, where it cannot push this training's own out."""
    with contextlib.suppress(OSError):
        path.rename(path.with_name(f"{why}-{path.name}-{uuid.uuid4().hex[:8]}"))


def _write_files(folder: Path, state: TrainingState, arrays: Arrays) -> None:
    described, values = [], {}
    for group, items in arrays.items():
        for number, item in enumerate(items):
            key = f"{group}_{number:05d}"
            described.append({"key": key, "group": group, "path": item.path})
            values[key] = item.value
    np.savez(folder / "arrays.npz", **values)
    text = json.dumps({"state": state.to_json(), "arrays": described}, indent=1)
    (folder / "state.json").write_text(text)


def _read_arrays(path: Path, described: list[dict[str, str]]) -> Arrays:
    arrays: Arrays = {}
    with np.load(path, allow_pickle=False) as values:
        for item in described:
            array = NamedArray(item["path"], values[item["key"]])
            arrays.setdefault(item["group"], []).append(array)
    return arrays


def _place_in_order(path: Path) -> tuple[int, int]:
    step, _, tries = path.name.partition("-")
    return int(step), int(tries or 0)


def _tell_fallback(damaged: list[str], what_follows: str) -> None:
    if damaged:
        events.note(
            "warning",
            f"Damaged checkpoints ({', '.join(damaged)}) were passed over: "
            f"{what_follows}.",
        )
