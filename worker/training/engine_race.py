"""Measures engines side by side: a few short rounds, in which they take turns."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from worker import events
from worker.training.feature_engines import Engine, Origin

_ROUNDS = 3
_ROUND_SECONDS = 0.25
# Slower than this share of the best after one round: not measured again.
_HOPELESS = 0.75


def run(engines: list[Engine], pixels: np.ndarray) -> list[float | None]:
    """Returns each engine's images per second, the engines taking turns.

    None for one that failed: with all of its lanes it needs more memory than before.
    """
    rates: list[list[float]] = [[] for _ in engines]
    failed: set[int] = set()
    for _ in range(_ROUNDS):
        best = max((max(rate) for rate in rates if rate), default=0.0)
        for place, (engine, rate) in enumerate(zip(engines, rates, strict=True)):
            if place in failed or (rate and max(rate) < _HOPELESS * best):
                continue
            try:
                rate.append(_time(engine, pixels))
            except Exception as error:  # noqa: BLE001 - it may fail in any way
                tell_failure(engine.origin, error)
                failed.add(place)
    return [
        None if place in failed else statistics.median(rate)
        for place, rate in enumerate(rates)
    ]


def tell_failure(origin: Origin, error: Exception) -> None:
    """Says that the engine of `origin` is left out, and why."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    events.note(
        "info",
        f"{origin.engine} ({origin.precision}, {origin.batch_rows} pictures at once) "
        f"cannot run this base model here and is left out: {lines[0][:200]}",
    )


def _time(engine: Engine, pixels: np.ndarray) -> float:
    rows = engine.origin.batch_rows
    batch = np.resize(pixels, (rows, *pixels.shape[1:]))
    began = time.monotonic()

    def work(_lane: int) -> int:
        done = 0
        while time.monotonic() - began < _ROUND_SECONDS:
            engine(batch)
            done += rows
        return done

    with ThreadPoolExecutor(engine.lanes) as pool:
        done = sum(pool.map(work, range(engine.lanes)))
    return done / (time.monotonic() - began)
