"""Runs the frozen base once per view and keeps the features for every job.

View 0 is the plain picture of every row; each further view is one augmented copy of
every training row. A view's folder is called after what it is of and after what
computed it, so jobs that differ in the head only share all of it, and a view that any
admitted engine has finished, on whichever machine, is not computed again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.training_spec import TrainingSpec
from worker import decode
from worker.training import augment, engine_choice, feature_array
from worker.training.determinism import count_cores
from worker.training.engine_choice import Measured
from worker.training.feature_array import HeldArray
from worker.training.feature_engines import FLOAT32, Engine, Origin
from worker.training.feature_pass import PendingView, compute_views
from worker.training.feature_shards import FeatureShards
from worker.training.frozen_base import FrozenBase
from worker.training.pack import Pack

# Raise it with any change to what is computed or how it is laid out.
VERSION = 2

_KEY_CHARACTERS = 32
_ORIGIN_CHARACTERS = 16


@dataclass(frozen=True)
class Features:
    """The cached features of one pack.

    Args:
        views: One array per view, (n, feature_size) float32 by row of the pack,
            memory-mapped. View 0 has every row; the others have the training rows,
            and zeros elsewhere.
        origins: What computed each view of the spec, or will compute those that were
            not asked for; a later attempt must ask for the same.
        digests: SHA-256 over what each view holds: the same features computed again
            have the same.
        found: Whether each view of the spec was there already.
        measured: What the probe of the engines gave, fastest first; empty without one.
    """

    views: list[HeldArray]
    origins: list[Origin]
    digests: list[str]
    found: list[bool]
    measured: list[Measured]


def open_or_compute_features(  # noqa: PLR0917 - the order in which they are used
    pack: Pack,
    base: FrozenBase,
    spec: TrainingSpec,
    caches: Path,
    report: Callable[[int, int], None] = lambda _done, _total: None,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    count: int | None = None,
    opened: Features | None = None,
    origins: list[Origin] | None = None,
    engines: Path | None = None,
    cores: int | None = None,
    exact: bool = True,
) -> Features:
    """Returns the features of the first views, computing those that no job has yet.

    Args:
        pack: The pixels.
        base: The frozen base; its network is built only when something is computed.
        spec: Names the number of views, the augmentation and the seed.
        caches: Folder that holds `features/` and `engines/`.
        report: Called with finished and all shards after each durable shard.
        should_stop: Asked several times a second.
        count: How many of the spec's views are wanted. Defaults to all.
        opened: What an earlier call returned; its views are not read again.
        origins: What computed the views of an earlier attempt, or was to compute them.
            Defaults to whatever is there, then to the engine that this machine has
            chosen.
        engines: Folder of this machine's choices and of converted base models.
            Defaults to that in `caches`.
        cores: Threads that this job may use. Defaults to all.
        exact: Whether float32 alone is allowed.

    Raises:
        Stopped: When `should_stop` said so; finished shards stay.
    """
    chooser = engine_choice.Chooser(
        base,
        pack,
        folder=engines or caches / "engines",
        cores=cores or count_cores(),
        exact=exact,
    )
    views = [
        _View(pack, base, spec, caches / "features", number)
        for number in range(spec.feature_views)
    ]
    count = spec.feature_views if count is None else count
    planned = origins or [None] * len(views)
    entries = _take_opened(opened)[:count]
    known = opened.found[: len(entries)] if opened else []
    entries += [
        _find_entry(view, planned[view.number], exact=exact)
        for view in views[len(entries) : count]
    ]
    there = [None if entry is None else entry.origin for entry in entries]
    there += [
        _find_origin(view, planned[view.number], exact=exact) for view in views[count:]
    ]
    plan = _plan_origins(views, there, origins, count, chooser)
    whole = _complete(views[:count], entries, plan, chooser, report, should_stop)
    return Features(
        [entry.array for entry in whole],
        [entry.origin for entry in whole] + plan[count:],
        [entry.array.digest for entry in whole],
        known + [origin is not None for origin in there[len(known) :]],
        chooser.measured,
    )


def open_engine(
    pack: Pack, base: FrozenBase, origin: Origin, *, engines: Path, cores: int
) -> Engine:
    """Returns what computes more features like those of `origin`.

    Args:
        pack: The pixels.
        base: The frozen base.
        origin: What computed the features that are there.
        engines: Folder of this machine's choices and of converted base models.
        cores: Threads that this job may use.
    """
    chooser = engine_choice.Chooser(
        base, pack, folder=engines, cores=cores, exact=origin.precision == FLOAT32
    )
    return chooser.build(chooser.adapt(origin))


@dataclass(frozen=True)
class _Entry:
    origin: Origin
    array: HeldArray


class _View:
    """What one view is of, whoever computes it."""

    def __init__(
        self,
        pack: Pack,
        base: FrozenBase,
        spec: TrainingSpec,
        features: Path,
        number: int,
    ) -> None:
        self.number = number
        self.features = features
        self._pack = pack
        self._spec = spec
        plain = number == 0
        self._rows = (
            np.arange(len(pack.pixels)) if plain else np.sort(pack.splits["train"])
        )
        facts: dict[str, Any] = {
            "version": VERSION,
            "decoder": decode.describe_decoder(),
            "fingerprint": pack.fingerprint,
            "rows": hashlib.sha256(self._rows.astype("<i8").tobytes()).hexdigest(),
            "image_size_px": pack.image_size_px,
            "fit": str(spec.fit),
            "base": base.identity,
        }
        if not plain:
            facts["view"] = {
                "number": number,
                "seed": spec.seed,
                "augmentation": spec.augmentation.model_dump(mode="json"),
                "changes": augment.describe_changes(),
            }
        self.subject = _digest(facts)[:_KEY_CHARACTERS]

    @property
    def size(self) -> int:
        """How many pictures it has."""
        return len(self._rows)

    def key(self, origin: Origin) -> str:
        """Returns the name of the folder of what `origin` computes."""
        return f"{self.subject}-{_digest(origin.to_json())[:_ORIGIN_CHARACTERS]}"

    def shards(self, origin: Origin) -> FeatureShards:
        """Returns the folder of what `origin` computes."""
        return FeatureShards(
            self.features / self.key(origin),
            total_rows=len(self._pack.pixels),
            rows=self._rows,
            origin=origin.to_json(),
        )

    def pixels_of(self, rows: np.ndarray) -> np.ndarray:
        """Returns this view's pictures of `rows` of the pack."""
        pixels = np.asarray(self._pack.pixels[rows])
        if self.number == 0:
            return pixels
        return augment.augment(
            pixels,
            rows,
            self._spec.augmentation,
            seed=self._spec.seed,
            epoch=self.number,
        )


def _take_opened(opened: Features | None) -> list[_Entry | None]:
    if opened is None:
        return []
    return list(map(_Entry, opened.origins, opened.views))


def _find_entry(view: _View, planned: Origin | None, *, exact: bool) -> _Entry | None:
    """Returns a finished view: what was `planned`, else any that may be used."""
    for origin in _list_usable(view, planned, exact=exact):
        array = view.shards(origin).find_array()
        if array is not None:
            return _Entry(origin, array)
    return None


def _find_origin(view: _View, planned: Origin | None, *, exact: bool) -> Origin | None:
    """Returns what computed a finished view that nobody reads yet, as `_find_entry`."""
    for origin in _list_usable(view, planned, exact=exact):
        if view.shards(origin).is_done:
            return origin
    return None


def _list_usable(
    view: _View, planned: Origin | None, *, exact: bool
) -> Iterator[Origin]:
    if planned is not None:
        yield planned
        return
    for fields in feature_array.list_origins(view.features, view.subject):
        origin = Origin.from_json(fields)
        if origin is not None and (not exact or origin.precision == FLOAT32):
            yield origin


def _plan_origins(
    views: list[_View],
    there: list[Origin | None],
    planned: list[Origin] | None,
    wanted: int,
    chooser: engine_choice.Chooser,
) -> list[Origin]:
    """Returns what has computed, or is to compute here, every view.

    Nothing is measured for views that are not wanted yet where what gave the plain view
    runs here just so: its processor and versions have admitted it.
    """
    missing = [view for view, origin in zip(views, there, strict=True) if not origin]
    if planned:
        mine = {view.number: chooser.adapt(planned[view.number]) for view in missing}
        return [origin or mine[number] for number, origin in enumerate(there)]
    if not missing:
        return [origin for origin in there if origin]
    plain = there[0]
    if plain and None not in there[:wanted] and chooser.adapt(plain) == plain:
        rest = plain
    else:
        rest = chooser.choose(sum(view.size for view in missing))
    return [origin or rest for origin in there]


def _complete(  # noqa: PLR0917 - the order in which they are used
    views: list[_View],
    entries: list[_Entry | None],
    origins: list[Origin],
    chooser: engine_choice.Chooser,
    report: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> list[_Entry]:
    """Returns every entry: those that are there and those computed now."""
    there = [entry for entry in entries if entry is not None]
    if len(there) == len(views):
        return there
    missing = [view for view, e in zip(views, entries, strict=True) if e is None]
    pending = _queue(missing, origins, chooser)
    total = sum(len(view.shards(origins[view.number])) for view in views)
    arrays = compute_views(
        pending, lambda left: report(total - left, total), should_stop
    )
    report(total, total)
    computed = {
        view.number: _Entry(made.engine.origin, array)
        for view, made, array in zip(missing, pending, arrays, strict=True)
    }
    return [
        entry or computed[view.number]
        for view, entry in zip(views, entries, strict=True)
    ]


def _queue(
    views: list[_View], origins: list[Origin], chooser: engine_choice.Chooser
) -> list[PendingView]:
    """Pairs each view with its engine; one engine serves all views of its origin."""
    engines: dict[Origin, Engine] = {}
    pending = []
    for view in views:
        origin = origins[view.number]
        if origin not in engines:
            engines[origin] = chooser.build(origin)
        pending.append(
            PendingView(view.shards(origin), engines[origin], view.pixels_of)
        )
    return pending


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
