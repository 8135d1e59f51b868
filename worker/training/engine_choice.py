"""Chooses the engine of the frozen pass by measuring, once per machine and base.

1. Every engine that could run, at its few sensible batch sizes and thread counts,
   computes the same pictures. Those that fail, or differ from the plain model by more
   than 1e-4 of the features' largest value, are out.
2. The rest take turns for a few rounds; the median decides. Between two that are as
   good as equal the order of the list decides, so that noise seldom does.
3. The choice is kept in a file named by the machine (processor, cores, versions) and
   the base (weights, image size). Processes that choose at once wait for the first.

Few pictures are not worth a race: where nothing is remembered, the plain model computes
them.

A job repeats nothing of this: its first checkpoint carries what computed its features
(`Origin`), and a later attempt asks for exactly that, wherever it runs.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shared.durable_files import write_atomically
from worker.training import engine_race, feature_engines, mixed_precision
from worker.training.feature_engines import (
    FLOAT32,
    FOLDED,
    ONNX,
    OPENVINO,
    PLAIN,
    Engine,
    Origin,
)
from worker.training.frozen_base import FrozenBase
from worker.training.pack import Pack

# The plain model computes this many pictures of the default base in about the time that
# two other engines take to be built (two idle cores: 87 images/s).
WORTH_MEASURING = 1000

# Largest difference from the plain model, as a share of the features' largest value.
PARITY_LIMIT = 1e-4

# Raise it with any change to what is measured or how it is kept.
_VERSION = 3

# Pictures of one call. A lane's small batch stays in its core's cache, and of two sizes
# that are as fast the larger makes fewer calls; a graph that itself uses every core
# wants more to share out, and a GPU more still.
_LANE_ROWS = (4, 1)
_SHARED_ROWS = 32
_GPU_ROWS = (32, 128)

_PARITY_ROWS = 32
# As good as equal: noise on a busy machine is larger.
_NEARLY = 0.95
# Half the bits must pay for the pictures that prove it harmless.
_MIXED_GAIN = 1.1
# A chooser that hangs holds up nobody for longer.
_PATIENCE_SECONDS = 120.0
_POLL_SECONDS = 0.2
_DIGEST_CHARACTERS = 32


@dataclass(frozen=True)
class Measured:
    """One engine's result.

    Args:
        origin: The engine and how it was called.
        images_per_second: Median over the rounds.
        difference: From the plain model, as a share of the largest feature.
    """

    origin: Origin
    images_per_second: float
    difference: float


@dataclass(frozen=True)
class _Choice:
    """What a machine uses for one base.

    Args:
        exact: The best in float32.
        mixed: What is faster with half the bits, where a dataset allows it.
    """

    exact: Origin
    mixed: Origin | None


class Chooser:
    """Knows which engine this machine uses for one base.

    Args:
        base: The frozen base.
        pack: Pictures to measure with; any will do for speed, and a mixed precision
            must prove itself on these.
        folder: Keeps the choices of every machine, and converted base models.
        cores: Threads that this job may use.
        exact: Whether float32 alone is allowed.
    """

    def __init__(
        self,
        base: FrozenBase,
        pack: Pack,
        *,
        folder: Path,
        cores: int,
        exact: bool,
    ) -> None:
        self._base = base
        self._pack = pack
        self._folder = folder
        self._cores = cores
        self._mixed = None if exact else mixed_precision.find_precision()
        self.measured: list[Measured] = []
        self._failed: set[tuple[str, str]] = set()

    def choose(self, pictures: int = WORTH_MEASURING) -> Origin:
        """Returns the remembered choice; measures and remembers it if there is none.

        Args:
            pictures: How many are to be computed; for few nothing is measured.
        """
        path = self._folder / f"{self._key()}.json"
        if pictures < WORTH_MEASURING and _read_choice(path) is None:
            return self._find_plain()
        with _first(path):
            kept = _read_choice(path)
            if kept is None:
                self.measured = self._measure()
                kept = self._pick(self.measured)
                with write_atomically(path) as part:
                    part.write_text(_describe(kept, self.measured))
        if kept.mixed is None:
            return kept.exact
        return self._prove(kept.exact, kept.mixed, path)

    def adapt(self, origin: Origin) -> Origin:
        """Returns what comes nearest to `origin` on this machine.

        Equal to it where versions and processor are; an engine that cannot run here
        gives way to this machine's own.
        """
        if origin.engine not in feature_engines.list_engines(self._base):
            return self.choose()
        return feature_engines.build_origin(
            origin.engine,
            precision=origin.precision,
            batch_rows=origin.batch_rows,
            threads=origin.threads,
        )

    def build(self, origin: Origin) -> Engine:
        """Returns the engine that `origin` describes."""
        return feature_engines.build_engine(
            origin, self._base, folder=self._folder, cores=self._cores
        )

    def _key(self) -> str:
        facts = {
            "version": _VERSION,
            "base": self._base.identity,
            "cores": self._cores,
            "threads": feature_engines.count_threads(),
            "processor": feature_engines.name_processor(),
            "frameworks": [
                feature_engines.name_framework(engine)
                for engine in feature_engines.ENGINES
            ],
            "mixed": self._mixed,
        }
        return _digest(facts)

    def _candidates(self) -> list[Origin]:
        build, names = (
            feature_engines.build_origin,
            feature_engines.list_engines(self._base),
        )
        inner = feature_engines.count_threads()
        found = []
        if OPENVINO in names:
            found += [
                build(OPENVINO, batch_rows=rows, threads=1) for rows in _LANE_ROWS
            ]
        if ONNX in names:
            found += [build(ONNX, batch_rows=rows, threads=1) for rows in _LANE_ROWS]
            if self._cores > 1:
                found.append(build(ONNX, batch_rows=_SHARED_ROWS, threads=self._cores))
        sizes = _GPU_ROWS if feature_engines.has_gpu() else (_SHARED_ROWS,)
        for name in (FOLDED, PLAIN):
            if name in names:
                found += [build(name, batch_rows=rows, threads=inner) for rows in sizes]
        if self._mixed:
            # On a CPU TensorFlow multiplies bfloat16 slower than float32.
            gains = OPENVINO if OPENVINO in names else FOLDED
            found += [
                replace(origin, precision=self._mixed)
                for origin in found
                if origin.engine == gains
            ]
        return found

    def _find_plain(self) -> Origin:
        """The plain model with its smallest batch."""
        return next(o for o in self._candidates() if o.engine == PLAIN)

    def _measure(self) -> list[Measured]:
        pixels = np.asarray(self._pack.pixels[:_PARITY_ROWS])
        plain = self.build(self._find_plain())
        # The reference, whatever becomes of it in the race.
        expected = plain.compute(pixels)
        admitted: list[tuple[Engine, float]] = [(plain, 0.0)]
        for origin in self._candidates():
            tried = None if origin == plain.origin else self._try(origin, pixels)
            if tried is None:
                continue
            engine, got = tried
            difference = feature_engines.measure_difference(got, expected)
            # The plain model is right by definition, even where weights that are no
            # numbers make every comparison fail.
            agrees = origin.engine == PLAIN or difference <= PARITY_LIMIT
            if agrees or origin.precision != FLOAT32:
                admitted.append((engine, difference))
        rates = engine_race.run([engine for engine, _ in admitted], pixels)
        measured = [
            Measured(engine.origin, round(rate, 1), difference)
            for (engine, difference), rate in zip(admitted, rates, strict=True)
            if rate is not None
        ]
        return sorted(measured, key=lambda m: -m.images_per_second)

    def _try(
        self, origin: Origin, pixels: np.ndarray
    ) -> tuple[Engine, np.ndarray] | None:
        """Returns the engine and what it computes; None when it cannot."""
        try:
            engine = self.build(origin)
            return engine, engine.compute(pixels)
        except OSError:
            raise  # of the disk, not of the engine
        except Exception as error:  # noqa: BLE001 - it may fail in any way it likes
            # Its other batch sizes are tried, too, and mostly fail for the same reason.
            if (origin.engine, origin.precision) not in self._failed:
                engine_race.tell_failure(origin, error)
            self._failed.add((origin.engine, origin.precision))
            return None

    def _pick(self, measured: list[Measured]) -> _Choice:
        exact = [m for m in measured if m.origin.precision == FLOAT32]
        best = max((m.images_per_second for m in exact), default=0.0)
        order = self._candidates()
        nearly = [m.origin for m in exact if m.images_per_second >= _NEARLY * best]
        gains = [
            m.origin
            for m in measured
            if m.origin.precision != FLOAT32
            and m.images_per_second > _MIXED_GAIN * best
        ]
        return _Choice(
            exact=min(nearly, key=order.index, default=self._find_plain()),
            mixed=next(iter(gains), None),
        )

    def _prove(self, exact: Origin, mixed: Origin, path: Path) -> Origin:
        """Returns `mixed` if it costs this dataset no accuracy, else `exact`."""
        facts = {
            "fingerprint": self._pack.fingerprint,
            "pixels": self._pack.folder.name,
            "origins": [exact.to_json(), mixed.to_json()],
        }
        verdict_path = path.with_name(f"{path.stem}-{_digest(facts)}.json")
        with _first(verdict_path):
            verdict = _read_json(verdict_path)
            if verdict is None:
                verdict = self._compare(exact, mixed)
                if verdict is None:
                    return exact  # not written down: another time it may run
                with write_atomically(verdict_path) as part:
                    part.write_text(json.dumps(verdict))
        return mixed if verdict["is_harmless"] else exact

    def _compare(self, exact: Origin, mixed: Origin) -> dict[str, Any] | None:
        """Returns the verdict on half the bits; None when they cannot be run."""
        trusted = self.build(exact)
        try:
            return mixed_precision.compare(trusted, self.build(mixed), self._pack)
        except OSError:
            raise  # of the disk, not of the engine
        except Exception as error:  # noqa: BLE001 - it may fail in any way it likes
            engine_race.tell_failure(mixed, error)
            return None


def describe_choice(measured: list[Measured]) -> str:
    """Returns a sentence about what the probe found, for the job's page."""
    best: dict[str, Measured] = {}
    for row in measured:
        best.setdefault(f"{row.origin.engine} {row.origin.precision}", row)
    figures = ", ".join(
        f"{name.removesuffix(f' {FLOAT32}')} {row.images_per_second:,.0f} images/s"
        for name, row in best.items()
    )
    return f"Measured which engine runs this base model fastest here: {figures}."


@contextlib.contextmanager
def _first(path: Path) -> Iterator[None]:
    """Lets one process at a time choose; the others then read what it chose."""
    if path.exists():
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with path.with_suffix(".lock").open("w") as lock:
        while time.monotonic() < deadline and not path.exists():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_POLL_SECONDS)
            except OSError:  # a file system without locks: two may measure
                break
        yield


def _read_choice(path: Path) -> _Choice | None:
    fields = _read_json(path) or {}
    exact, mixed = (Origin.from_json(fields.get(name)) for name in ("exact", "mixed"))
    if exact is None:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # what is used is not swept away as old
    return _Choice(exact, mixed)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return fields if isinstance(fields, dict) else None


def _describe(chosen: _Choice, measured: list[Measured]) -> str:
    fields = asdict(chosen) | {"measured": [asdict(row) for row in measured]}
    return json.dumps(fields, indent=1)


def _digest(facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]
