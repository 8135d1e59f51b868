"""Removes from shared storage what no row names any more, or nobody reads.

Rows go first and files after, so a process that dies in between leaves files without
rows; they are found here a day later. Nothing younger than a day is touched, since a
file is always written before the row that names it; what no row ever names waits for
an hour, longer than any sweep between the look at the rows and the files. Nor is a
folder numbered higher than any row: a database that was mixed up or restored must not
cost files.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from shared import feature_cache, reconcile_store
from shared.artifacts import PROOFS, Storage, list_scratch, remove_tree
from shared.database import Database
from shared.file_locks import try_lock
from shared.reconcile_store import NamedFiles

log = structlog.get_logger()

YOUNG_SECONDS = 24 * 3600
UPLOAD_LOCK = "lock"  # of an upload that comes in pieces
UNUSED_CACHE_SECONDS = 30 * 24 * 3600
UNNAMED_SECONDS = 3600
CHECKPOINT_JOBS = 100  # jobs whose old checkpoints one sweep looks at


def collect_garbage(
    database: Database,
    storage: Storage,
    *,
    max_feature_cache_bytes: int,
    young_seconds: float = YOUNG_SECONDS,
) -> list[str]:
    """Removes superfluous checkpoints, and whatever old files no row names.

    Args:
        database: The records.
        storage: Shared storage.
        max_feature_cache_bytes: What cached features may take on the disk; above it
            the least recently used go, unless somebody uses them now.
        young_seconds: Files and folders younger than this stay, cached features
            aside.

    Returns:
        What was removed, below shared storage; checkpoints of live rows aside.
    """
    _remove_checkpoints(database, storage)
    with database.reading() as session:
        named = reconcile_store.list_named_files(session)
    removed = []
    for find in (_jobs, _datasets, _artifacts, _uploads, _packs, _engines):
        for path in find(storage, named, young_seconds):
            remove_tree(path)
            removed.append(storage.relative(path))
            log.info("garbage_removed", path=removed[-1])
    for path in feature_cache.remove_unneeded(
        storage.root / "features",
        max_bytes=max_feature_cache_bytes,
        unused_seconds=max(young_seconds, UNUSED_CACHE_SECONDS),
    ):
        removed.append(storage.relative(path))
        log.info("garbage_removed", path=removed[-1])
    return removed


def _remove_checkpoints(database: Database, storage: Storage) -> None:
    marked = database.tx(
        lambda s: reconcile_store.take_superfluous_checkpoints(s, CHECKPOINT_JOBS)
    )
    if marked:
        storage.remove(marked)
        database.tx(lambda s: reconcile_store.forget_checkpoints(s, marked))


def _jobs(storage: Storage, named: NamedFiles, young_seconds: float) -> Iterator[Path]:
    """Folders of deleted jobs, and of ended attempts what no checkpoint row names.

    Logs of ended attempts stay as long as their job.
    """
    for job in _numbered(storage.root / "jobs", named.highest_job):
        if int(job.name) not in named.jobs:
            if _is_old(job, young_seconds):
                yield job
            continue
        running = named.jobs[int(job.name)]
        is_over = int(job.name) in named.ended_jobs
        for attempt in _children(job / "attempts"):
            if attempt.name.split("-")[0] == str(running):
                continue
            yield from _unnamed_results(attempt, storage, named, young_seconds)
            for folder in _list_workings(attempt, is_over=is_over):
                if _is_old(folder, min(young_seconds, UNNAMED_SECONDS)):
                    yield folder


def _unnamed_results(
    attempt: Path, storage: Storage, named: NamedFiles, young_seconds: float
) -> Iterator[Path]:
    for folder in (*_children(attempt / "ckpt"), attempt / "final"):
        unnamed = storage.relative(folder) not in named.checkpoints
        if folder.exists() and unnamed and _is_old(folder, young_seconds):
            yield folder


def _list_workings(attempt: Path, *, is_over: bool) -> list[Path]:
    """What an ingest that was killed has left; a job that goes on needs its proofs."""
    proofs = attempt / PROOFS
    return list_scratch(attempt) + ([proofs] if is_over and proofs.exists() else [])


def _datasets(
    storage: Storage, named: NamedFiles, young_seconds: float
) -> Iterator[Path]:
    """Folders of deleted datasets; versions and forecasts that nobody reads.

    That is, those that were never published, and forecasts that a newer one of their
    version has followed a day ago: their rows keep what was promised.
    """
    kept = named.dataset_versions | _list_read(storage, named, young_seconds)
    for dataset in _numbered(storage.root / "datasets", named.highest_dataset):
        if int(dataset.name) in named.busy_datasets:
            continue
        if int(dataset.name) not in named.datasets:
            if _is_old(dataset, young_seconds):
                yield dataset
            continue
        forecasts = storage.forecasts(int(dataset.name))
        found = [path for path in _children(dataset) if path != forecasts]
        for path in (*found, *_children(forecasts)):
            if storage.relative(path) not in kept and _is_old(path, young_seconds):
                yield path


def _list_read(storage: Storage, named: NamedFiles, young_seconds: float) -> set[str]:
    """Forecasts that a page may show: the newest of versions, and those that were."""
    return {
        folder
        for folder, later in named.forecasts.items()
        if later is None or _is_young(storage.resolve(later), young_seconds)
    }


def _is_young(path: Path, young_seconds: float) -> bool:
    """Whether it is there, and not old: what has been removed was old."""
    return path.exists() and not _is_old(path, young_seconds)


def _artifacts(
    storage: Storage, named: NamedFiles, young_seconds: float
) -> Iterator[Path]:
    if not named.highest_job:
        return
    for folder in _children(storage.root / "artifacts" / "sha256"):
        for file in _children(folder):
            if file.name not in named.artifacts and _is_old(file, young_seconds):
                yield file


def _uploads(
    storage: Storage, named: NamedFiles, young_seconds: float
) -> Iterator[Path]:
    """Uploads that no job names and nobody has continued.

    One that comes in pieces has a lock, which is held while its files are removed: who
    just makes a dataset of it either has it, or finds it gone.
    """
    for folder in _children(storage.root / "uploads"):
        if folder.name in named.uploads or not _is_abandoned(folder, young_seconds):
            continue
        if not (folder / UPLOAD_LOCK).is_file():
            yield folder
            continue
        with _try_lock(folder / UPLOAD_LOCK) as is_ours:
            if is_ours and _is_abandoned(folder, young_seconds):
                yield folder


def _is_abandoned(folder: Path, young_seconds: float) -> bool:
    # The folder's own time is that of its first byte; an upload may take long.
    newest = max((folder, *_children(folder)), key=_changed_at)
    return _is_old(newest, young_seconds)


@contextlib.contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    try:
        lock = try_lock(path, shared=False)
    except OSError:  # removed meanwhile
        lock = None
    with lock or contextlib.nullcontext():
        yield lock is not None


def _packs(storage: Storage, named: NamedFiles, young_seconds: float) -> Iterator[Path]:
    """Packs of dataset versions that are gone; a cache is rebuilt on need."""
    for folder in _children(storage.root / "packs"):
        if folder.name not in named.fingerprints and _is_old(folder, young_seconds):
            yield folder


def _engines(
    storage: Storage, _named: NamedFiles, young_seconds: float
) -> Iterator[Path]:
    """Converted base models that nobody has opened for a month; opening touches."""
    for file in _children(storage.root / "engines"):
        if _is_old(file, max(young_seconds, UNUSED_CACHE_SECONDS)):
            yield file


def _numbered(folder: Path, highest: int) -> list[Path]:
    return [
        path
        for path in _children(folder)
        if path.name.isdigit() and int(path.name) <= highest
    ]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_old(path: Path, young_seconds: float) -> bool:
    return time.time() - _changed_at(path) > young_seconds


def _changed_at(path: Path) -> float:
    return _stat(path).st_mtime


def _stat(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except FileNotFoundError:  # somebody else removed it: as young as can be
        return os.stat_result((0,) * 7 + (time.time(),) * 3)
