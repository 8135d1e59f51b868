"""What was promised of waiting jobs against what came: sentences, points, rows."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared import promise_store
from shared.promise_store import Kept

LOOKED_BACK = 500
SHOWN = 50
MOST = 0.9  # share of the errors that are no larger than the second figure


@dataclass(frozen=True)
class Errors:
    """How far off promises were, in seconds, whichever way.

    Args:
        count: Promises.
        median: Half of them were no further off.
        most: Nine of ten were no further off.
    """

    count: int
    median: float
    most: float


def make_page(session: Session) -> dict[str, Any]:
    """Returns the values of the page on promises."""
    kept = promise_store.list_kept(session, limit=LOOKED_BACK)
    return {
        "starts": measure([p.started_at - p.promised_start for p in kept]),
        "ends": measure(
            [
                p.ended_at - p.promised_end
                for p in kept
                if p.ended_at is not None and p.promised_end is not None
            ]
        ),
        "rows": [_make_row(p) for p in kept[:SHOWN]],
    }


def list_points(session: Session) -> dict[str, list[float]]:
    """Returns promised and actual waits, in minutes, as columns of a chart."""
    kept = promise_store.list_kept(session, limit=LOOKED_BACK)
    return {
        "job": [p.job_id for p in kept],
        "promised": [_minutes(p.promised_start - p.made_at) for p in kept],
        "actual": [_minutes(p.started_at - p.made_at) for p in kept],
    }


def measure(errors_ms: Sequence[int]) -> Errors | None:
    """Returns the size of the errors; None when there is none to measure."""
    sizes = sorted(abs(error) / 1000 for error in errors_ms)
    if not sizes:
        return None
    most = sizes[min(len(sizes) - 1, int(MOST * len(sizes)))]
    return Errors(len(sizes), statistics.median(sizes), most)


def _make_row(promise: Kept) -> dict[str, Any]:
    starts_at, ends_at = promise.promised_start, promise.promised_end
    return {
        "job_id": promise.job_id,
        "made_at": promise.made_at,
        "promised_wait": (starts_at - promise.made_at) / 1000,
        "wait": (promise.started_at - promise.made_at) / 1000,
        "promised_run": None if ends_at is None else (ends_at - starts_at) / 1000,
        "run": None
        if promise.ended_at is None
        else (promise.ended_at - promise.started_at) / 1000,
    }


def _minutes(milliseconds: int) -> float:
    return max(0, milliseconds) / 60_000
