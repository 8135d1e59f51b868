"""One view's features on disk: finished shard by shard, then one array.

Any number of processes may compute the same view at once, and each may be killed at
any moment:

1. A shard is claimed with an advisory lock on its lock file, which dies with its
   holder. Locks only save double work; without them everything stays right.
2. A finished shard is written to a new file, fsynced, and renamed to a name that
   carries its own SHA-256. Whoever finds it checks it and keeps it.
3. Whoever sees every shard finished joins them into `features.f32`, fsyncs, renames,
   and then writes `DONE.json` the same way. Only a folder with `DONE.json` is read.
4. Who reads or computes holds the folder (`shared/feature_cache.py`), so that the sweep
   of a cache that has grown too large takes what nobody uses.

The folder is a cache: it may be deleted at any time.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shared import feature_cache
from shared.artifacts import fsync_file, write_atomically
from worker.training.mapped_files import PageBudget

SHARD_ROWS = 256

_DTYPE = np.dtype("<f4")


class HeldArray(np.memmap):
    """A mapped array whose cache entry is not removed while it lives."""

    holder: BinaryIO | None = None


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
        self._origin = origin
        self._total_rows = total_rows
        self._rows = rows
        self._shards = -(-len(rows) // SHARD_ROWS)
        self._verified: set[int] = set()

    def __len__(self) -> int:
        return self._shards

    def rows_of(self, shard: int) -> np.ndarray:
        """Returns the rows that `shard` holds."""
        return self._rows[shard * SHARD_ROWS : (shard + 1) * SHARD_ROWS]

    def find_array(self) -> np.ndarray | None:
        """Returns the finished array, read from disk as needed, or None.

        A file that does not match its digest is removed and counts as unfinished.

        Shapes:
            result: (total_rows, feature_size) float32, read-only.
        """
        if not self.is_done:
            return None
        try:
            array = self._open_array()
            if array is None:
                return None
            done = json.loads((self._folder / "DONE.json").read_text())
            if self._digest(array) == done["sha256"]:
                return array
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        except OSError:
            return None
        shutil.rmtree(self._folder, ignore_errors=True)
        return None

    @property
    def is_done(self) -> bool:
        """Whether a finished array is there; `find_array` checks it."""
        return (self._folder / "DONE.json").exists()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the folder from being removed from the cache meanwhile."""
        self._folder.mkdir(parents=True, exist_ok=True)
        holder = feature_cache.hold(self._folder)
        try:
            yield
        finally:
            # None when it is being removed right now: it is then made anew, and the
            # sweep takes the oldest first.
            if holder is not None:
                holder.close()

    def list_missing(self) -> list[int]:
        """Returns the shards that no process has finished yet."""
        return [shard for shard in range(self._shards) if not self._is_there(shard)]

    @contextlib.contextmanager
    def claimed(self, shard: int) -> Iterator[bool]:
        """Tells whether this process may compute `shard` now; holds it meanwhile."""
        self._shard_folder.mkdir(parents=True, exist_ok=True)
        with (self._shard_folder / f"{shard:06d}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError:
                # A filesystem without locks: two may do the same work, no more.
                yield True
                return
            # Who joins the shards removes them after it has written the array.
            yield not self.is_done and not self._is_there(shard)

    def publish(self, shard: int, features: np.ndarray) -> None:
        """Makes the finished `features` of `shard` durable.

        Shapes:
            features: (rows of the shard, feature_size) float32.
        """
        data = np.ascontiguousarray(features, _DTYPE).tobytes()
        name = f"{shard:06d}-{hashlib.sha256(data).hexdigest()}.f32"
        self._shard_folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(self._shard_folder / name) as part:
            part.write_bytes(data)
        self._verified.add(shard)

    def join_shards(self) -> np.ndarray | None:
        """Joins the shards to the finished array; None when one was lost meanwhile."""
        part = self._folder / f"features.{uuid.uuid4().hex}.part"
        try:
            array = self._write_array(part)
            if array is None:
                return None
            digest = self._digest(array)
            fsync_file(part)
            part.replace(self._folder / "features.f32")
            with write_atomically(self._folder / "DONE.json") as done:
                facts = {"sha256": digest, "origin": self._origin}
                done.write_text(json.dumps(facts))
            joined = self._open_array()
        except FileNotFoundError:
            # The cache was deleted under our hands.
            self._verified.clear()
            return None
        finally:
            part.unlink(missing_ok=True)
        # A part that is left is a killed process's, or of one that will find ours.
        for leftover in self._folder.glob("*.part"):
            leftover.unlink(missing_ok=True)
        shutil.rmtree(self._shard_folder, ignore_errors=True)
        return joined

    def _write_array(self, part: Path) -> np.ndarray | None:
        """Writes every shard's rows to their place; None when a shard was lost."""
        array = budget = None
        for shard in range(self._shards):
            data = self._find_shard(shard)
            if data is None:
                self._verified.discard(shard)
                return None
            if array is None or budget is None:
                shape = self._total_rows, data.shape[1]
                array = np.memmap(part, _DTYPE, "w+", shape=shape)
                budget = PageBudget([array])
            array[self.rows_of(shard)] = data
            budget.spend(1, data.nbytes)
        if array is not None:
            array.flush()
        return array

    @property
    def _shard_folder(self) -> Path:
        return self._folder / "shards"

    def _open_array(self) -> HeldArray | None:
        """Maps the array and holds its entry; None when that is being removed."""
        # Held first and mapped after: what is mapped stays.
        holder = feature_cache.hold(self._folder)
        if holder is None:
            return None
        path = self._folder / "features.f32"
        # How long a row is, the network knows and the file tells: nobody builds the one
        # to read the other.
        feature_size, rest = divmod(
            path.stat().st_size, self._total_rows * _DTYPE.itemsize
        )
        if rest or not feature_size:
            raise ValueError("the file does not hold as many rows")
        shape = self._total_rows, feature_size
        array: Any = HeldArray(path, _DTYPE, "r", shape=shape)
        array.holder = holder
        return array

    def _digest(self, array: np.ndarray) -> str:
        digest = hashlib.sha256()
        budget = PageBudget([array])
        for shard in range(self._shards):
            data = np.ascontiguousarray(array[self.rows_of(shard)]).tobytes()
            digest.update(data)
            budget.spend(1, len(data))
        return digest.hexdigest()

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
            except FileNotFoundError:
                continue
            named = path.stem.partition("-")[2]
            if hashlib.sha256(data).hexdigest() == named:
                rows = len(self.rows_of(shard))
                return np.frombuffer(data, _DTYPE).reshape(rows, -1)
            path.unlink(missing_ok=True)
        return None


def list_origins(features: Path, subject: str) -> Iterator[Any]:
    """Yields what computed each finished view of `subject`.

    Args:
        features: Folder of the whole cache.
        subject: What the view is of; a folder's name begins with it.
    """
    for folder in sorted(features.glob(f"{subject}-*")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            yield json.loads((folder / "DONE.json").read_text())["origin"]
