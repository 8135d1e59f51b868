"""Runs the frozen base once per view and keeps the features for every job.

View 0 is the plain picture of every row; each further view is one augmented copy of
every training row. What a view holds is decided by its key alone, so jobs that differ
in the head only share all of it.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from shared.training_spec import TrainingSpec
from worker import decode
from worker.training import augment, feature_engines
from worker.training.determinism import count_cores
from worker.training.feature_engines import BATCH_ROWS, Engine
from worker.training.feature_shards import FeatureShards
from worker.training.pack import Pack
from worker.training.pretrained_weights import digest_weights
from worker.training.stop_requests import Stopped

# Raise it with any change to what is computed or how it is laid out.
VERSION = 1

# How long another process may hold the shards that are left before we compute them
# too: it may hang, and double work does no harm.
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.2
_MOST_MAKERS = 4


@dataclass(frozen=True)
class Features:
    """The cached features of one pack.

    Args:
        views: One array per view, (n, feature_size) float32 by row of the pack,
            memory-mapped. View 0 has every row; the others have the training rows,
            and zeros elsewhere.
        engine: What computed them; a later attempt must ask for the same.
        digest: SHA-256 over the keys of all views and so over what they hold.
    """

    views: list[np.ndarray]
    engine: str
    digest: str


def open_or_compute_features(  # noqa: PLR0917 - the order in which they are used
    pack: Pack,
    base: keras.Model,
    spec: TrainingSpec,
    caches: Path,
    report: Callable[[int, int], None] = lambda _done, _total: None,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    engine: str | None = None,
) -> Features:
    """Returns the features of every view, computing those that no job has yet.

    Args:
        pack: The pixels.
        base: The frozen base, as `build_base` made it.
        spec: Names the number of views, the augmentation and the seed.
        caches: Folder that holds `features/`.
        report: Called with finished and all shards after each durable shard.
        should_stop: Asked between shards.
        engine: The engine of an earlier attempt. Defaults to the preferred one that
            agrees with the plain model.

    Raises:
        Stopped: When `should_stop` said so; finished shards stay.
    """
    names = [engine] if engine else feature_engines.list_engines(base)
    weights = digest_weights(base)
    views = [
        _open_view(pack, base, spec, caches, number=number, engine=names[0], by=weights)
        for number in range(spec.feature_views)
    ]
    found = [view.shards.find_array() for view in views]
    if any(array is None for array in found):
        name, run = _choose_engine(names, base, pack)
        if name != names[0]:
            return open_or_compute_features(
                pack, base, spec, caches, report, should_stop, engine=name
            )
        found = _compute_views(views, found, run, report, should_stop)
    keys = "".join(view.key for view in views)
    digest = hashlib.sha256(keys.encode()).hexdigest()
    return Features([a for a in found if a is not None], names[0], digest)


@dataclass(frozen=True)
class _View:
    key: str
    shards: FeatureShards
    pixels_of: Callable[[np.ndarray], np.ndarray]


def _open_view(
    pack: Pack,
    base: keras.Model,
    spec: TrainingSpec,
    caches: Path,
    *,
    number: int,
    engine: str,
    by: str,
) -> _View:
    plain = number == 0
    rows = np.arange(len(pack.pixels)) if plain else np.sort(pack.splits["train"])
    facts: dict[str, Any] = {
        "version": VERSION,
        "decode_version": decode.DECODE_VERSION,
        "fingerprint": pack.fingerprint,
        "rows": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest(),
        "image_size_px": pack.image_size_px,
        "fit": str(spec.fit),
        "base_model": spec.base_model,
        "weights": by,
        "engine": engine,
        "framework": feature_engines.name_framework(),
        "threads": feature_engines.count_threads() or count_cores(),
        "processor": _name_processor(),
        "precision": "float32",
    }
    if not plain:
        facts["view"] = {
            "number": number,
            "seed": spec.seed,
            "augmentation": spec.augmentation.model_dump(mode="json"),
            "augment_version": augment.VERSION,
        }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    shards = FeatureShards(
        caches / "features" / key,
        total_rows=len(pack.pixels),
        rows=rows,
        feature_size=base.output_shape[-1],
    )

    def pixels_of(wanted: np.ndarray) -> np.ndarray:
        pixels = np.asarray(pack.pixels[wanted])
        if plain:
            return pixels
        return augment.augment(
            pixels, wanted, spec.augmentation, seed=spec.seed, epoch=number
        )

    return _View(key, shards, pixels_of)


def _name_processor() -> str:
    """The processors' names: other kernels on another type round differently."""
    names: set[str] = set()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415 - only under the TensorFlow backend

        for device in tf.config.list_physical_devices("GPU"):
            details = tf.config.experimental.get_device_details(device)
            names.add(str(details.get("device_name", "GPU")))
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                names.add(line.partition(":")[2].strip())
    except OSError:
        names.add("unknown")
    return ", ".join(sorted(names))


def _choose_engine(
    names: list[str], base: keras.Model, pack: Pack
) -> tuple[str, Engine]:
    """Returns the first engine that agrees with the plain model."""
    sample = _pad(np.asarray(pack.pixels[:BATCH_ROWS]))
    for name in names[:-1]:
        engine = feature_engines.build_engine(name, base)
        difference = feature_engines.measure_difference(engine, base, sample)
        if difference <= feature_engines.PARITY_LIMIT:
            return name, engine
    return names[-1], feature_engines.build_engine(names[-1], base)


def _compute_views(
    views: list[_View],
    found: list[np.ndarray | None],
    engine: Engine,
    report: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> list[np.ndarray | None]:
    total = sum(len(view.shards) for view in views)
    ready = sum(
        len(view.shards)
        for view, array in zip(views, found, strict=True)
        if array is not None
    )
    arrays = list(found)
    for place, view in enumerate(views):
        while arrays[place] is None:
            for missing in _finish_shards(view, engine, should_stop):
                report(ready + len(view.shards) - missing, total)
            arrays[place] = _find_or_join(view.shards)
        if found[place] is None:
            ready += len(view.shards)
    report(total, total)
    return arrays


def _find_or_join(shards: FeatureShards) -> np.ndarray | None:
    """Another process may have joined the shards and removed them."""
    array = shards.find_array()
    return shards.join_shards() if array is None else array


def _finish_shards(
    view: _View, engine: Engine, should_stop: Callable[[], bool]
) -> Iterator[int]:
    """Computes what no other process computes; yields how many shards are missing."""
    last_count, waits_since = -1, time.monotonic()
    while missing := view.shards.list_missing():
        if view.shards.find_array() is not None:
            return
        if len(missing) != last_count:
            last_count, waits_since = len(missing), time.monotonic()
            yield last_count
        impatient = time.monotonic() - waits_since > _PATIENCE_SECONDS
        for shard in missing:
            if should_stop():
                raise Stopped
            with view.shards.claimed(shard) as is_ours:
                if is_ours or impatient:
                    view.shards.publish(shard, _compute_shard(view, shard, engine))
                    last_count -= 1
                    waits_since = time.monotonic()
                    yield last_count
        time.sleep(_POLL_SECONDS)


def _compute_shard(view: _View, shard: int, engine: Engine) -> np.ndarray:
    rows = view.shards.rows_of(shard)
    batches = [rows[at : at + BATCH_ROWS] for at in range(0, len(rows), BATCH_ROWS)]
    makers = min(_MOST_MAKERS, count_cores())
    with ThreadPoolExecutor(makers, thread_name_prefix="feature-pixels") as pool:
        computed = [
            engine(_pad(pixels))[: len(pixels)]
            for pixels in pool.map(view.pixels_of, batches)
        ]
    return np.concatenate(computed)


def _pad(pixels: np.ndarray) -> np.ndarray:
    missing = BATCH_ROWS - len(pixels)
    return np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0)))
