"""Which base model suits a dataset: the probe's accuracy on each, and its cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from shared.base_models import get_base_model
from worker.insight.cross_validation import Probed
from worker.training.intervals import wilson_interval

# Two base models differ when chance alone would part them less often than this
# (McNemar's exact test on the pictures that only one of them tells right).
_CHANCE = 0.05


@dataclass(frozen=True)
class Entry:
    """One base model on the leaderboard.

    Args:
        name: Of the base model.
        image_size_px: Side of the pictures that it was shown.
        probed: What the probe of its features says.
        seconds_per_thousand: Its pass over a thousand pictures.
    """

    name: str
    image_size_px: int
    probed: Probed
    seconds_per_thousand: float


def choose_winner(entries: Sequence[Entry], labels: np.ndarray) -> str:
    """Returns the cheapest base model that none is demonstrably better than.

    Args:
        entries: At least one, all probed on the same rows.
        labels: Class numbers of all images.
    """
    best = max(entries, key=lambda one: _right(one, labels).mean())
    rivals = [
        entry
        for entry in entries
        if entry is best or not _is_better(_right(best, labels), _right(entry, labels))
    ]
    return min(rivals, key=lambda one: one.seconds_per_thousand).name


def describe_base_models(
    entries: Sequence[Entry], labels: np.ndarray
) -> list[dict[str, Any]]:
    """Returns the list `base_models` of forecast.json, the most accurate first."""
    winner = choose_winner(entries, labels)
    rows = []
    for entry in entries:
        right = _right(entry, labels)
        rows.append(
            {
                "name": entry.name,
                "accuracy": float(right.mean()),
                "interval": list(wilson_interval(int(right.sum()), len(right))),
                "seconds_per_thousand": entry.seconds_per_thousand,
                "parameters": get_base_model(entry.name).parameters,
                "image_size_px": entry.image_size_px,
                "is_winner": entry.name == winner,
            }
        )
    return sorted(rows, key=lambda row: -float(row["accuracy"]))


def _right(entry: Entry, labels: np.ndarray) -> np.ndarray:
    return entry.probed.predicted == labels[entry.probed.rows]


def _is_better(one: np.ndarray, other: np.ndarray) -> bool:
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    if gained <= lost:
        return False
    return bool(binomtest(lost, gained + lost).pvalue < _CHANCE)
