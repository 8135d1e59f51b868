"""Which base model suits a dataset: the probe's accuracy on each, and its cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from shared.base_models import get_base_model
from worker.insight.independence import tell_interval

# Two base models differ when chance alone would part them less often than this (an
# exact sign test over groups, by which of the two tells more of a group right; of
# pictures that are alone, McNemar's).
_CHANCE = 0.05


@dataclass(frozen=True)
class Entry:
    """One base model on the leaderboard.

    Args:
        name: Of the base model.
        image_size_px: Side of the pictures that it was shown.
        right: Whether the probe of its features tells each picture right.
        seconds_per_thousand: Its pass over a thousand pictures.

    Shapes:
        right: (n,) bool, of the same pictures for all base models.
    """

    name: str
    image_size_px: int
    right: np.ndarray
    seconds_per_thousand: float


def choose_winner(entries: Sequence[Entry], groups: np.ndarray | None = None) -> str:
    """Returns the cheapest base model that none is demonstrably better than.

    Args:
        entries: At least one.
        groups: Of the pictures; None for each by itself.
    """
    unbeaten = [
        entry
        for entry in entries
        if not any(_is_better(one.right, entry.right, groups) for one in entries)
    ]
    # Three may each beat the next in a circle.
    rivals = unbeaten or [max(entries, key=lambda one: one.right.mean())]
    return min(rivals, key=lambda one: one.seconds_per_thousand).name


def describe_base_models(
    entries: Sequence[Entry], groups: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Returns the list `base_models` of forecast.json, the most accurate first.

    Args:
        entries: At least one.
        groups: Of the pictures; None for each by itself.
    """
    winner = choose_winner(entries, groups)
    rows = [
        {
            "name": entry.name,
            "accuracy": float(entry.right.mean()),
            "interval": tell_interval(entry.right, groups),
            "seconds_per_thousand": entry.seconds_per_thousand,
            "parameters": get_base_model(entry.name).parameters,
            "image_size_px": entry.image_size_px,
            "is_winner": entry.name == winner,
        }
        for entry in entries
    ]
    return sorted(rows, key=lambda row: -float(row["accuracy"]))


def _is_better(one: np.ndarray, other: np.ndarray, groups: np.ndarray | None) -> bool:
    ahead = one.astype(int) - other
    if groups is not None:
        numbers = np.unique(groups, return_inverse=True)[1]
        ahead = np.bincount(numbers, weights=ahead)
    gained, lost = int((ahead > 0).sum()), int((ahead < 0).sum())
    # More groups may be told better by what tells fewer pictures right.
    if gained <= lost or one.mean() <= other.mean():
        return False
    return bool(binomtest(lost, gained + lost).pvalue < _CHANCE)
