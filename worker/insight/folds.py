"""Folds: parts of a dataset, each judged by probes that know only the others.

They are dealt by group, stratified by class: copies of one picture lie in one fold, or
a flipped label would be confirmed by its own twin.
"""

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

FOLDS = 5


def deal_folds(
    labels: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0
) -> np.ndarray:
    """Returns the fold of each row, 0 to at most `FOLDS` - 1.

    Args:
        labels: Class numbers.
        groups: Rows with one number stay together. Defaults to each by itself, and so
            it is where all are of one group.
        seed: Of the dealing.

    Shapes:
        labels, groups, result: (n,) integers.
    """
    _, numbers = np.unique(
        np.arange(len(labels)) if groups is None else groups, return_inverse=True
    )
    if not numbers.any():
        numbers = np.arange(len(labels))
    count = int(max(2, min(FOLDS, numbers.max() + 1)))
    if np.bincount(labels).max() < count:
        return numbers % count  # too few of every class to be stratified
    # Dealing groups takes a step of Python each: not for pictures that are alone.
    is_grouped = numbers.max() + 1 < len(labels)
    kind = StratifiedGroupKFold if is_grouped else StratifiedKFold
    splitter = kind(count, shuffle=True, random_state=seed)
    folds = np.zeros(len(labels), np.int64)
    with warnings.catch_warnings():
        # A class with fewer pictures than folds is missing in some: so be it.
        warnings.simplefilter("ignore", UserWarning)
        parts = splitter.split(np.zeros((len(labels), 1)), labels, numbers)
        for number, (_, held_out) in enumerate(parts):
            folds[held_out] = number
    # One large group may leave a fold without any.
    folds = np.unique(folds, return_inverse=True)[1]
    return folds if folds.max() else numbers % count
