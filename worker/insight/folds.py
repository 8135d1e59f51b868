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
    # Dealing groups takes a step of Python and a row of classes each: not for pictures
    # that are alone.
    is_alone = np.bincount(numbers)[numbers] == 1
    folds = np.zeros(len(labels), np.int64)
    for part, kind in ((is_alone, StratifiedKFold), (~is_alone, StratifiedGroupKFold)):
        splitter = kind(count, shuffle=True, random_state=seed)
        folds[part] = _deal(splitter, labels[part], numbers[part])
    # One large group may leave a fold without any.
    folds = np.unique(folds, return_inverse=True)[1]
    return folds if folds.max() else numbers % count


def _deal(
    splitter: StratifiedKFold | StratifiedGroupKFold,
    labels: np.ndarray,
    groups: np.ndarray,
) -> np.ndarray:
    """Returns the fold of each row."""
    numbers, count = np.unique(groups, return_inverse=True)[1], splitter.n_splits
    if len(np.unique(numbers)) < count or np.bincount(labels).max() < count:
        return numbers % count  # too few of every class to be stratified
    folds = np.zeros(len(labels), np.int64)
    with warnings.catch_warnings():
        # A class with fewer pictures than folds is missing in some: so be it.
        warnings.simplefilter("ignore", UserWarning)
        parts = splitter.split(np.zeros((len(labels), 1)), labels, numbers)
        for number, (_, held_out) in enumerate(parts):
            folds[held_out] = number
    return folds
