"""Packs: a dataset decoded and resized once, then read without decoding.

A pack is a folder of shards, each the raw uint8 pixels of some hundred images in the
dataset's order, and `pack.json`, written last. The protocol, safe against `kill -9` at
any moment and against two processes building the same pack:

0. The folder is named by all that decides the pixels, so nothing in it is ever stale,
   and workers of two versions do not disturb each other.
1. Without a whole `pack.json`, every shard on disk is taken as unfinished business: a
   shard is kept when its digest, stored beside it, fits its bytes.
2. Missing shards are decoded into a file of their own, fsynced and renamed.
   Decoding is deterministic, so a second builder only writes the same bytes again; it
   starts elsewhere in the pack and skips what it finds, so two share the work.
3. `pack.json` names every shard with its digest; from then on the pack is complete.

Opening compares all digests (about 1 GB/s a thread, and the pages read are needed right
after): a damaged or deleted shard is decoded again, without anybody being asked.
"""

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from shared.artifacts import sha256_file
from shared.durable_files import write_atomically
from shared.errors import UserError
from shared.training_spec import Fit
from worker import events
from worker.training.image_texts import BLOCK_ROWS
from worker.training.labelled_images import ImageText, LabelledImages, read_dataset
from worker.training.mapped_files import PageBudget

__all__ = ["LabelledImages", "Pack", "Pixels", "open_or_build_pack", "read_dataset"]

# Small enough that a shard takes about a second and a killed build loses little.
SHARD_BYTES = 32 * 2**20
# Every mapped shard holds a file descriptor, of which a process may have 1,024 by
# default: large datasets get larger shards instead of more.
MAX_SHARDS = 256
_PACK_VERSION = 2
_NAME_CHARACTERS = 16
_LEFTOVER_SECONDS = 3600
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class _Plan:
    """What a pack consists of; equal plans give equal bytes."""

    folder: Path
    dataset: LabelledImages
    image_size_px: int
    fit: Fit

    @property
    def image_bytes(self) -> int:
        return self.image_size_px * self.image_size_px * 3

    @property
    def images_per_shard(self) -> int:
        fewest = -(-len(self.dataset) // MAX_SHARDS)
        return max(1, SHARD_BYTES // self.image_bytes, fewest)

    @property
    def shard_count(self) -> int:
        return -(-len(self.dataset) // self.images_per_shard)

    def rows(self, shard: int) -> range:
        start = shard * self.images_per_shard
        return range(start, min(start + self.images_per_shard, len(self.dataset)))

    def shard_path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:06d}.u8"

    def digest_path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:06d}.sha256"


def _make_plan(
    dataset: LabelledImages, image_size_px: int, fit: Fit, caches: Path
) -> _Plan:
    from worker.decode import describe_decoder  # noqa: PLC0415 - TensorFlow

    facts = {
        "pack_version": _PACK_VERSION,
        "decoder": describe_decoder(),
        "images": len(dataset),
        "order": dataset.order,
        "shard_bytes": SHARD_BYTES,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    name = f"{image_size_px}-{fit.value}-{digest[:_NAME_CHARACTERS]}"
    folder = caches / "packs" / dataset.fingerprint / name
    return _Plan(folder, dataset, image_size_px, fit)


class Pixels:
    """The pixels of a pack, `(images, size, size, 3)` uint8, mapped from disk.

    Indexing with a slice or an array of positions copies just those images into
    memory; a whole number gives the picture where it lies, read-only.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, shards: list[np.ndarray]) -> None:
        self._shards = shards
        self._per_shard = len(shards[0])
        self.shape = (sum(map(len, shards)), *shards[0].shape[1:])
        self._image_bytes = shards[0][0].nbytes
        self._budget = PageBudget(shards)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | np.ndarray | list[int]) -> np.ndarray:
        if isinstance(index, int | np.integer):
            return self._view(int(index))
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        positions = np.asarray(index)
        if positions.dtype == bool:
            positions = np.flatnonzero(positions)
        positions = np.where(positions < 0, positions + len(self), positions)
        if positions.size and not (
            positions.min() >= 0 and positions.max() < len(self)
        ):
            raise IndexError(f"The pack holds {len(self)} images.")
        return self._gather(positions.astype(np.int64))

    def _view(self, position: int) -> np.ndarray:
        count = len(self)
        if not -count <= position < count:
            raise IndexError(f"The pack holds {count} images.")
        self._budget.spend(1, self._image_bytes)
        shard, row = divmod(position % count, self._per_shard)
        return self._shards[shard][row]

    def _gather(self, positions: np.ndarray) -> np.ndarray:
        taken = np.empty((len(positions), *self.shape[1:]), np.uint8)
        shards, rows = np.divmod(positions, self._per_shard)
        for shard in np.unique(shards):
            here = shards == shard
            taken[here] = self._shards[shard][rows[here]]
            self._budget.spend(int(here.sum()), self._image_bytes)
        return taken


@dataclass(frozen=True)
class Pack:
    """A dataset at one image size, ready to be read in batches.

    Args:
        dataset: What it was made of.
        pixels: `(images, image_size_px, image_size_px, 3)` uint8, in its order.
        image_size_px: Side of the square, pixels.
        fit: How other shapes became a square.
        folder: Where it lies.
    """

    dataset: LabelledImages
    pixels: Pixels
    image_size_px: int
    fit: Fit
    folder: Path

    @property
    def labels(self) -> np.ndarray:
        """Class number of each image: `(images,)` int32."""
        return self.dataset.labels

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """Positions of the images of `train`, `val` and `test`."""
        return self.dataset.splits

    @property
    def classes(self) -> list[str]:
        """Class names by number."""
        return self.dataset.classes

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the dataset version."""
        return self.dataset.fingerprint


def open_or_build_pack(
    dataset: LabelledImages,
    *,
    image_size_px: int,
    fit: Fit | str,
    caches: Path,
    report: Report = lambda _done, _total: None,
    threads: int | None = None,
) -> Pack:
    """Opens the pack of `dataset` at one size, decoding what is not on disk yet.

    Args:
        dataset: From `read_dataset`.
        image_size_px: Side of the square, pixels.
        fit: How other shapes become a square.
        caches: Folder that holds `packs/`. May be deleted at any time between runs.
        report: Called with (images on disk for good, images in all), first with what
            an earlier attempt had finished, then after each shard.
        threads: Decoding threads. Defaults to the number of cores.

    Raises:
        UserError: Naming the image that is no readable JPEG or PNG.
        OSError: The disk is full or cannot be read.
    """
    fit = Fit(fit)
    plan = _make_plan(dataset, image_size_px, fit, caches)
    threads = threads or len(os.sched_getaffinity(0))
    if not _is_complete(plan, threads):
        _build(plan, threads, report)
    report(len(dataset), len(dataset))
    return Pack(dataset, Pixels(_map_shards(plan)), image_size_px, fit, plan.folder)


def count_missing_bytes(
    dataset: LabelledImages, *, image_size_px: int, fit: Fit | str, caches: Path
) -> int:
    """Returns what `open_or_build_pack` will write: a pack less what is there of it."""
    plan = _make_plan(dataset, image_size_px, Fit(fit), caches)
    shards = map(plan.shard_path, range(plan.shard_count))
    there = sum(path.stat().st_size for path in shards if path.exists())
    return len(dataset) * image_size_px**2 * 3 - there


def _map_shards(plan: _Plan) -> list[np.ndarray]:
    shape = (-1, plan.image_size_px, plan.image_size_px, 3)
    # Plain arrays over the maps: an index into np.memmap costs ten times as much.
    return [
        np.asarray(np.memmap(plan.shard_path(shard), np.uint8, "r")).reshape(shape)
        for shard in range(plan.shard_count)
    ]


def _is_complete(plan: _Plan, threads: int) -> bool:
    try:
        digests = json.loads((plan.folder / "pack.json").read_bytes())["shards"]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError):
        return _tell_damage(plan)
    if not isinstance(digests, list) or len(digests) != plan.shard_count:
        return _tell_damage(plan)
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(_hash_shard, map(plan.shard_path, range(plan.shard_count)))
        return list(found) == digests or _tell_damage(plan)


def _tell_damage(plan: _Plan) -> bool:
    events.note(
        "warning",
        f"Pictures are decoded again, because files in {plan.folder} are damaged "
        "or missing.",
    )
    return False


def _build(plan: _Plan, threads: int, report: Report) -> None:
    _sweep_leftovers(plan.folder)
    digests: dict[int, str] = {}
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        finished = list(pool.map(lambda s: _finished(plan, s), _order(plan)))
        for shard, digest in zip(_order(plan), finished, strict=True):
            if digest is not None:
                digests[shard] = digest
                done += len(plan.rows(shard))
    report(done, len(plan.dataset))
    missing = [shard for shard in _order(plan) if shard not in digests]
    for shard, digest in _decode_shards(plan, missing, threads):
        digests[shard] = digest
        done += len(plan.rows(shard))
        report(done, len(plan.dataset))
    facts = {"shards": [digests[shard] for shard in range(plan.shard_count)]}
    with _replacing(plan.folder / "pack.json") as stream:
        stream.write(json.dumps(facts).encode())


def _sweep_leftovers(folder: Path) -> None:
    """Removes what killed writers left; a live one finishes its file in seconds."""
    for leftover in folder.glob(".tmp-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_SECONDS:
                leftover.unlink()


def _order(plan: _Plan) -> Iterator[int]:
    """All shards, starting where another process most likely does not."""
    start = os.getpid() % max(plan.shard_count, 1)
    return ((start + step) % plan.shard_count for step in range(plan.shard_count))


def _finished(plan: _Plan, shard: int) -> str | None:
    """The digest of a shard that is whole on disk, else None."""
    try:
        promised = plan.digest_path(shard).read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return promised if _hash_shard(plan.shard_path(shard)) == promised else None


def _hash_shard(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except FileNotFoundError:
        return None


def _decode_shards(
    plan: _Plan, shards: list[int], threads: int
) -> Iterator[tuple[int, str]]:
    """Yields (shard, digest) as each is on disk; memory holds one image a thread."""
    decode = _decoder(plan)
    failed = threading.Event()

    def build(shard: int) -> tuple[int, str]:
        if failed.is_set():
            return shard, ""
        digest = _finished(plan, shard)
        return shard, digest or _write_shard(plan, shard, decode)

    with ThreadPoolExecutor(threads) as pool:
        try:
            for future in as_completed([pool.submit(build, s) for s in shards]):
                yield future.result()
        except BaseException:
            failed.set()  # the waiting shards must not be decoded first
            raise


def _write_shard(
    plan: _Plan, shard: int, decode: Callable[[ImageText], np.ndarray]
) -> str:
    digest = hashlib.sha256()
    with _replacing(plan.shard_path(shard)) as stream:
        for image in _describe_in_turn(plan, shard):
            pixels = decode(image).tobytes()
            digest.update(pixels)
            stream.write(pixels)
    # The digest goes last: a shard without a fitting one is not finished.
    with _replacing(plan.digest_path(shard)) as stream:
        stream.write(digest.hexdigest().encode())
    return digest.hexdigest()


def _describe_in_turn(plan: _Plan, shard: int) -> Iterator[ImageText]:
    """The words of a shard's images, a block at a time: a shard may be of any size."""
    rows = plan.rows(shard)
    for at in range(0, len(rows), BLOCK_ROWS):
        yield from plan.dataset.describe(rows[at : at + BLOCK_ROWS])


def _decoder(plan: _Plan) -> Callable[[ImageText], np.ndarray]:
    import tensorflow as tf  # noqa: PLC0415 - only when there is something to decode

    from worker.decode import decode_image  # noqa: PLC0415

    with tf.device("CPU:0"):
        graph = tf.function(
            lambda encoded: decode_image(encoded, plan.image_size_px, plan.fit),
            input_signature=[tf.TensorSpec([], tf.string)],
            autograph=False,
        ).get_concrete_function()

    def decode(image: ImageText) -> np.ndarray:
        encoded = image.read()
        try:
            pixels = graph(tf.constant(encoded)).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise UserError(
                f"“{image.name}” is no readable JPEG or PNG picture. Add the data as a "
                "dataset: ingest sorts such files out and says why."
            ) from error
        events.stage("first image")
        return pixels

    return decode


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that appears whole and durable at `path`, or not at all."""
    with write_atomically(path) as temporary, temporary.open("wb") as stream:
        yield stream
