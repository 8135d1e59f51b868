"""Runs engines over the shards that are missing, and keeps every core at it.

Lanes are threads; each reads its pictures, augments them and computes their features,
one small batch after another. A lane needs nothing from the others, and the batches of
two shards are always in line, so no core waits at the border between shards or views
while a finished shard is hashed and written.

A shard is claimed before its batches are in line and published when its last one is
done. What another process holds is left to it for as long as it shows signs of life,
however slow it is.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from worker.training.feature_array import HeldArray
from worker.training.feature_engines import Engine
from worker.training.feature_shards import FeatureShards
from worker.training.stop_requests import Stopped

# One shard is computed and the next is in line.
_SHARDS_AT_ONCE = 2
# For so long may another process hold a shard, or join them, without finishing a batch
# or adding a shard. One that hangs is then not waited for any longer: what two of them
# make, each in a file of its own, does no harm, and the first stays. The slowest batch
# and a graph's first call are to fit.
_PATIENCE_SECONDS = 300.0
# A stop is obeyed within this time and one batch, however slow the base is.
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class PendingView:
    """A view with rows to compute.

    Args:
        shards: Where they are kept.
        engine: What computes them.
        pixels_of: From rows of the pack to this view's pictures.
    """

    shards: FeatureShards
    engine: Engine
    pixels_of: Callable[[np.ndarray], np.ndarray]


def compute_views(
    views: list[PendingView],
    report: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> list[HeldArray]:
    """Returns the whole array of each view once this or another process has made it.

    Args:
        views: What to compute.
        report: Called with the number of shards that are still missing.
        should_stop: Asked several times a second.

    Raises:
        Stopped: When `should_stop` said so; finished shards stay.
    """
    with contextlib.ExitStack() as held:
        for view in views:
            held.enter_context(view.shards.in_use())
        while True:
            _finish_shards(views, report, should_stop)
            # One that is lost by now, or damaged, is made again.
            arrays = [_find_or_join(view.shards, should_stop) for view in views]
            whole = [array for array in arrays if array is not None]
            if len(whole) == len(views):
                return whole


class _Patience:
    """Ends when those who are waited for have shown no sign of life for too long."""

    def __init__(self) -> None:
        self._seen: object = None
        self.begin()

    def begin(self) -> None:
        self._since = time.monotonic()

    def look(self, signs: object) -> None:
        if signs != self._seen:
            self._seen = signs
            self.begin()

    @property
    def is_over(self) -> bool:
        return time.monotonic() - self._since > _PATIENCE_SECONDS


def _find_or_join(
    shards: FeatureShards, should_stop: Callable[[], bool]
) -> HeldArray | None:
    """Another process may have joined the shards and removed them, or do so now."""
    patience = _Patience()
    while True:
        array = shards.find_array()
        if array is None:
            array = shards.join_shards(even_if_held=patience.is_over)
        if array is not None or (not shards.is_done and shards.list_missing()):
            return array
        _wait(should_stop)
        patience.look(shards.last_sign(None))


def _finish_shards(
    views: list[PendingView],
    report: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> None:
    lanes = max(view.engine.lanes for view in views)
    with ThreadPoolExecutor(lanes, thread_name_prefix="feature-lane") as pool:
        line = _Line(pool, should_stop)
        try:
            _work(views, line, report)
        finally:
            line.leave()


def _work(
    views: list[PendingView], line: "_Line", report: Callable[[int], None]
) -> None:
    """Computes what no other process computes, until nothing is missing."""
    least, patience = None, _Patience()
    while missing := _list_missing(views):
        if least is None or len(missing) < least:
            least = len(missing)
            patience.begin()
            report(least)
        left = len(missing)
        for view, shard in missing:
            line.join(view, shard, even_if_held=patience.is_over)
            if len(line) == _SHARDS_AT_ONCE:
                left -= line.publish_first()
                report(left)
        if not line:
            line.pause()
            patience.look([view.shards.last_sign(shard) for view, shard in missing])
        while line:
            left -= line.publish_first()
            report(left)


def _list_missing(views: list[PendingView]) -> list[tuple[PendingView, int]]:
    return [
        (view, shard)
        for view in views
        if not view.shards.is_done
        for shard in view.shards.list_missing()
    ]


@dataclass(frozen=True)
class _Place:
    shards: FeatureShards
    shard: int
    batches: list[Future[np.ndarray]]
    claim: contextlib.ExitStack


class _Line:
    """The claimed shards whose batches the lanes work on, oldest first."""

    def __init__(
        self, pool: ThreadPoolExecutor, should_stop: Callable[[], bool]
    ) -> None:
        self._pool = pool
        self._should_stop = should_stop
        self._places: deque[_Place] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def join(self, view: PendingView, shard: int, *, even_if_held: bool) -> None:
        """Puts the batches of `shard` in line if no other process computes it."""
        with contextlib.ExitStack() as claim:
            is_ours = claim.enter_context(view.shards.claimed(shard))
            if is_ours or (even_if_held and shard in view.shards.list_missing()):
                batches = [
                    self._pool.submit(_compute, view, rows)
                    for rows in _cut(view.shards.rows_of(shard), view.engine)
                ]
                place = _Place(view.shards, shard, batches, claim.pop_all())
                self._places.append(place)

    def publish_first(self) -> int:
        """Waits for the oldest shard, makes it durable and counts it."""
        place = self._places[0]
        for batch in place.batches:
            while not wait([batch], _POLL_SECONDS).done:
                _look_up(self._should_stop)
            _look_up(self._should_stop)
            for held in self._places:
                held.shards.show_life(held.shard)
        features = np.concatenate([batch.result() for batch in place.batches])
        place.shards.publish(place.shard, features)
        self._places.popleft().claim.close()
        return 1

    def pause(self) -> None:
        """Waits a moment: everything that is missing is in other hands."""
        _wait(self._should_stop)

    def leave(self) -> None:
        """Takes back what no lane has begun and gives up the claims."""
        for place in self._places:
            for batch in place.batches:
                batch.cancel()
            place.claim.close()
        self._places.clear()


def _wait(should_stop: Callable[[], bool]) -> None:
    _look_up(should_stop)
    time.sleep(_POLL_SECONDS)


def _look_up(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise Stopped


def _cut(rows: np.ndarray, engine: Engine) -> Iterator[np.ndarray]:
    size = engine.origin.batch_rows
    return (rows[at : at + size] for at in range(0, len(rows), size))


def _compute(view: PendingView, rows: np.ndarray) -> np.ndarray:
    return view.engine(view.pixels_of(rows))
