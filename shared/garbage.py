"""Removes from shared storage what no row names any more.

Rows go first and files after, so a process that dies in between leaves files without
rows; they are found here a day later. Nothing younger than a day is touched, since a
file is always written before the row that names it.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from shared import reconcile_store
from shared.artifacts import Storage, remove_tree
from shared.database import Database

log = structlog.get_logger()

YOUNG_SECONDS = 24 * 3600
CHECKPOINT_JOBS = 100  # jobs whose old checkpoints one sweep looks at


def collect_garbage(
    database: Database, storage: Storage, *, young_seconds: float = YOUNG_SECONDS
) -> None:
    """Removes superfluous checkpoints, and whatever old files no row names.

    Args:
        database: The records.
        storage: Shared storage.
        young_seconds: Files and folders younger than this stay.
    """
    _remove_checkpoints(database, storage)
    removed = [
        *_attempts(database, storage, young_seconds),
        *_artifacts(database, storage, young_seconds),
        *_uploads(database, storage, young_seconds),
        *_packs(database, storage, young_seconds),
    ]
    for path in removed:
        remove_tree(path)
        log.info("garbage_removed", path=storage.relative(path))


def _remove_checkpoints(database: Database, storage: Storage) -> None:
    marked = database.tx(
        lambda s: reconcile_store.take_superfluous_checkpoints(s, CHECKPOINT_JOBS)
    )
    if marked:
        storage.remove(marked)
        database.tx(lambda s: reconcile_store.forget_checkpoints(s, marked))


def _attempts(
    database: Database, storage: Storage, young_seconds: float
) -> Iterator[Path]:
    """Folders of unknown jobs, and of ended attempts what no checkpoint row names."""
    for job in _old_children(storage.root / "jobs", young_seconds):
        if not job.name.isdigit():
            continue
        with database.reading() as session:
            named = reconcile_store.known_attempts(session, int(job.name))
            running = reconcile_store.current_fence(session, int(job.name))
        if named is None:
            yield job
            continue
        for attempt in _old_children(job / "attempts", young_seconds):
            if attempt.name.split("-")[0] == str(running):
                continue
            for folder in (*(attempt / "ckpt").glob("*"), attempt / "final"):
                unnamed = storage.relative(folder) not in named
                if folder.exists() and unnamed and _is_old(folder, young_seconds):
                    yield folder


def _artifacts(
    database: Database, storage: Storage, young_seconds: float
) -> Iterator[Path]:
    with database.reading() as session:
        named = reconcile_store.named_artifacts(session)
    for file in (storage.root / "artifacts" / "sha256").glob("*/*"):
        if file.name not in named and _is_old(file, young_seconds):
            yield file


def _uploads(
    database: Database, storage: Storage, young_seconds: float
) -> Iterator[Path]:
    with database.reading() as session:
        named = reconcile_store.named_uploads(session)
    for folder in _old_children(storage.root / "uploads", young_seconds):
        if folder.name not in named:
            yield folder


def _packs(
    database: Database, storage: Storage, young_seconds: float
) -> Iterator[Path]:
    """Packs of dataset versions that are gone; a cache is rebuilt on need."""
    with database.reading() as session:
        known = reconcile_store.known_fingerprints(session)
    for folder in _old_children(storage.root / "packs", young_seconds):
        if folder.name not in known:
            yield folder


def _old_children(folder: Path, young_seconds: float) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if _is_old(path, young_seconds)]


def _is_old(path: Path, young_seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime > young_seconds
    except FileNotFoundError:
        return False
