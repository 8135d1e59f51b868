"""What the charts of a submission show: curves laid over each other, and settings."""

import math
import statistics
from typing import Any

from sqlalchemy.orm import Session

from shared import comparison_store
from web.jobs.comparison import Compared, Comparison
from web.jobs.submit import show_setting

MAX_CURVES = 12  # as many as can be told apart: six colours, solid and dashed
MAX_SETTINGS = 6
LOG_SPAN = 20  # the largest value by the smallest, from which a log axis may help


def charted_settings(found: Comparison) -> list[str]:
    """Returns the settings against which the accuracy is drawn."""
    return found.list_numeric()[:MAX_SETTINGS]


def list_axes(found: Comparison) -> tuple[tuple[str, bool], ...]:
    """Returns each charted setting, and whether its axis goes by magnitude."""
    return tuple(
        (name, _goes_by_magnitude([row.settings.get(name) for row in found.rows]))
        for name in charted_settings(found)
    )


def make_points(session: Session, found: Comparison) -> dict[str, Any]:
    """Returns the columns of every chart, and which line is which job's."""
    shown = [row for row in found.rank() if row.val_accuracy is not None][:MAX_CURVES]
    curves = comparison_store.list_curves(session, [row.job for row in shown])
    columns = {
        f"curve-{place}": _make_curve(row, curves.get(row.job, []))
        for place, row in enumerate(shown)
    }
    columns |= {
        f"curve-{place}": {"epoch": [], "accuracy": [], "job": []}
        for place in range(len(shown), MAX_CURVES)
    }
    for place, name in enumerate(charted_settings(found)):
        known = [
            row
            for row in found.rows
            if row.val_accuracy is not None and row.settings.get(name) is not None
        ]
        columns[f"setting-{place}"] = _make_dots(name, known)
        columns[f"best-{place}"] = _make_dots(name, [row for row in known if row.best])
    return {
        "columns": columns,
        "keys": [_describe(row, found.settings) for row in shown],
    }


def _goes_by_magnitude(values: list[Any]) -> bool:
    """Guesses how values were drawn, by which of their ends' means is in the middle."""
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    if low <= 0 or high < LOG_SPAN * low:
        return False
    middle = math.log(statistics.median(known))
    by_magnitude, evenly = math.log(math.sqrt(low * high)), math.log((low + high) / 2)
    return abs(middle - by_magnitude) < abs(middle - evenly)


def _make_curve(row: Compared, accuracies: list[float]) -> dict[str, list[Any]]:
    return {
        "epoch": list(range(1, len(accuracies) + 1)),
        "accuracy": accuracies,
        "job": [row.job] * len(accuracies),
    }


def _make_dots(name: str, rows: list[Compared]) -> dict[str, list[Any]]:
    return {
        "value": [row.settings[name] for row in rows],
        "accuracy": [row.val_accuracy for row in rows],
        "job": [row.job for row in rows],
    }


def _describe(row: Compared, names: list[str]) -> dict[str, Any]:
    settings = (f"{n} {show_setting(n, row.settings.get(n))}" for n in names)
    return {"job": row.job, "best": row.best, "words": " · ".join(settings)}
