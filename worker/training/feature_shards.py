"""One view's features on disk: finished shard by shard, then one array.

Any number of processes may compute the same view at once, and each may be killed at
any moment:

1. A shard is claimed with an advisory lock on its lock file, which dies with its
   holder. Locks only save double work; without them everything stays right.
2. A finished shard is written to a new file, fsynced, and renamed to a name that
   carries its own SHA-256. Whoever finds it checks it and keeps it.
3. Who sees every shard finished joins them, one process at a time by another lock; the
   others wait for it and read what it made (`feature_array.py`). Only a folder with
   `DONE.json` is read.
4. Who reads or computes holds the folder (`shared/feature_cache.py`), so that the sweep
   of a cache that has grown too large takes what nobody uses.
5. Who computes or joins touches its lock file with every step. Others leave the work to
   it for as long as they see that happen.

The folder is a cache: it may be deleted at any time.
"""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shared import feature_cache, file_locks
from shared.durable_files import write_atomically
from shared.file_locks import FileLock
from worker.training.feature_array import DTYPE, FeatureArray, HeldArray

SHARD_ROWS = 256

# A writer adds to its file many times a second: one this old is a killed process's.
_LEFTOVER_SECONDS = 3600
# Each try meets a sweep that removes the folder at this very moment.
_HOLD_TRIES = 3


class FeatureShards:
    """The folder of one view.

    Args:
        folder: Named by the view's key; made when it is first held or published.
        total_rows: Rows of the finished array.
        rows: The rows that are computed, rising; the others stay zero and take no
            space on disk.
        origin: What computes them, as JSON values; kept with the finished array.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total_rows: int,
        rows: np.ndarray,
        origin: dict[str, Any],
    ) -> None:
        self._folder = folder
        self._array = FeatureArray(
            folder, total_rows=total_rows, rows=rows, origin=origin
        )
        self._rows = rows
        self._shards = -(-len(rows) // SHARD_ROWS)
        self._verified: set[int] = set()

    def __len__(self) -> int:
        return self._shards

    def rows_of(self, shard: int) -> np.ndarray:
        """Returns the rows that `shard` holds."""
        return self._rows[shard * SHARD_ROWS : (shard + 1) * SHARD_ROWS]

    def find_array(self) -> HeldArray | None:
        """Returns the finished array as `FeatureArray.find` does."""
        return self._array.find()

    @property
    def is_done(self) -> bool:
        """Whether a finished array is there; `find_array` checks it."""
        return self._array.is_done

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the folder from being removed from the cache meanwhile."""
        holder = None
        for _ in range(_HOLD_TRIES):
            self._folder.mkdir(parents=True, exist_ok=True)
            holder = feature_cache.hold(self._folder)
            if holder is not None:
                break
        try:
            yield
        finally:
            # Without one, what is removed is computed again.
            if holder is not None:
                holder.close()

    def list_missing(self) -> list[int]:
        """Returns the shards that no process has finished yet."""
        return [shard for shard in range(self._shards) if not self._is_there(shard)]

    @contextlib.contextmanager
    def claimed(self, shard: int) -> Iterator[bool]:
        """Tells whether this process may compute `shard` now; holds it meanwhile."""
        with _locked(self._lock_path(shard)) as lock:
            # Who joins the shards removes them after it has written the array.
            is_ours = lock is not None and not self.is_done
            yield is_ours and not self._is_there(shard)

    def show_life(self, shard: int) -> None:
        """Tells the others that a claimed `shard` is being worked on."""
        try:
            os.utime(self._lock_path(shard))
        except OSError as error:
            if not file_locks.is_gone(error):  # the cache was deleted
                raise

    def last_sign(self, shard: int | None) -> int:
        """Returns when the holder of `shard`, or who joins, last did a step.

        To be compared with itself alone: it is told by another host's clock, in ns.
        """
        path = self._join_path if shard is None else self._lock_path(shard)
        try:
            return path.stat().st_mtime_ns
        except OSError as error:
            if file_locks.is_gone(error):
                return 0
            raise

    def publish(self, shard: int, features: np.ndarray) -> None:
        """Makes the finished `features` of `shard` durable.

        Shapes:
            features: (rows of the shard, feature_size) float32.

        Raises:
            OSError: The disk is full, even without entries that nobody uses.
        """
        data = np.ascontiguousarray(features, DTYPE).tobytes()
        name = f"{shard:06d}-{hashlib.sha256(data).hexdigest()}.f32"

        def write() -> None:
            self._shard_folder.mkdir(parents=True, exist_ok=True)
            with write_atomically(self._shard_folder / name) as part:
                part.write_bytes(data)

        feature_cache.write_making_room(self._folder.parent, len(data), write)
        self._verified.add(shard)

    def join_shards(self, *, even_if_held: bool = False) -> HeldArray | None:
        """Joins the shards to the finished array, unless it is there already.

        Args:
            even_if_held: Whether to join when another process holds the lock, too. Each
                writes a file of its own, and the first that is done is kept.

        Returns:
            None when another process joins them, or when one was lost meanwhile:
            `list_missing` tells which.

        Raises:
            OSError: The disk is full, even without entries that nobody uses.
        """
        with _locked(self._join_path) as lock:
            if lock is None and not even_if_held:
                return None
            if self.is_done:
                return self.find_array()
            try:
                joined = feature_cache.write_making_room(
                    self._folder.parent,
                    self._measure_shards(),
                    lambda: self._array.write(self._read_all(lock)),
                )
            except FileNotFoundError:
                # The cache was deleted under our hands, a shard or all of it.
                self._verified.clear()
                return None
            self._remove_leftovers()
        return joined

    def _read_all(self, lock: FileLock | None) -> Iterable[np.ndarray]:
        for shard in range(self._shards):
            data = self._find_shard(shard)
            if data is None:
                raise FileNotFoundError(self._shard_folder / f"{shard:06d}")
            if lock is not None:
                lock.touch()
            yield data

    def _measure_shards(self) -> int:
        with os.scandir(self._shard_folder) as files:
            return sum(file.stat().st_size for file in files)

    def _remove_leftovers(self) -> None:
        shutil.rmtree(self._shard_folder, ignore_errors=True)
        for part in self._folder.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):  # published just now
                if time.time() - part.stat().st_mtime > _LEFTOVER_SECONDS:
                    part.unlink()

    @property
    def _shard_folder(self) -> Path:
        return self._folder / "shards"

    @property
    def _join_path(self) -> Path:
        return self._folder / "join.lock"

    def _lock_path(self, shard: int) -> Path:
        return self._shard_folder / f"{shard:06d}.lock"

    def _is_there(self, shard: int) -> bool:
        if shard in self._verified:
            return True
        if self._find_shard(shard) is None:
            return False
        self._verified.add(shard)
        return True

    def _find_shard(self, shard: int) -> np.ndarray | None:
        """Reads a finished shard; one that does not match its name is removed."""
        for path in sorted(self._shard_folder.glob(f"{shard:06d}-*.f32")):
            try:
                data = path.read_bytes()
            except OSError as error:
                if file_locks.is_gone(error):  # joined by now
                    continue
                raise
            named = path.stem.partition("-")[2]
            if hashlib.sha256(data).hexdigest() == named:
                rows = len(self.rows_of(shard))
                return np.frombuffer(data, DTYPE).reshape(rows, -1)
            path.unlink(missing_ok=True)
        return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[FileLock | None]:
    """Holds the lock at `path`; None when another process does."""
    lock = _try_lock(path)
    if lock is None:
        yield None
        return
    with lock:
        lock.touch()
        yield lock


def _try_lock(path: Path) -> FileLock | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return file_locks.try_lock(path, shared=False)
        except OSError as error:
            if not file_locks.is_gone(error):  # joined or swept since it was made
                raise
