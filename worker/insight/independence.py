"""How much pictures of one group count: ten of one patient say less than ten patients.

A share measured on clustered pictures varies more between draws than one of as many
independent ones, by the design effect (Kish, "Survey Sampling", 1965, chapter 5): the
variance of the ratio estimate over groups, divided by that of a simple random sample.
Divided by it, the number of pictures is that of independent ones which would tell as
much.
"""

import numpy as np

from worker.training.intervals import wilson_interval


def measure_design_effect(right: np.ndarray, groups: np.ndarray | None) -> float:
    """Returns by how much groups widen the variance of a share of hits; at least 1.

    Args:
        right: Whether each picture was told right.
        groups: Of each picture; None for each by itself.

    Shapes:
        right: (n,) bool; groups: (n,) integers.
    """
    count = len(right)
    if groups is None or not count:
        return 1.0
    numbers = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(numbers).astype(float)
    if len(sizes) == count:
        return 1.0
    if len(sizes) == 1:
        return float(count)  # one observation of whatever the group has in common
    share = float(np.mean(right))
    plain = share * (1 - share) / count
    if not plain:
        # Nothing varies, between groups or within: that pictures of one group are
        # independent is nowhere seen, so each group counts as one observation.
        return _measure_size(groups)
    residuals = np.bincount(numbers, weights=right) - share * sizes
    between = len(sizes) / (len(sizes) - 1) * float((residuals**2).sum()) / count**2
    return max(1.0, between / plain)


def transfer_design_effect(
    effect: float, judged: np.ndarray | None, others: np.ndarray | None
) -> float:
    """Returns the design effect that `effect` means for pictures in other groups.

    It is 1 + (m - 1) * rho, with m the mean size of the group that a picture is in and
    rho the correlation within groups, which is taken to be the same.

    Args:
        effect: Measured on the pictures of `judged`.
        judged: Their groups.
        others: Groups of the pictures to tell it for.
    """
    if judged is None or others is None or effect <= 1:
        return 1.0
    here, there = _measure_size(judged), _measure_size(others)
    if here <= 1:
        return 1.0
    return 1 + (there - 1) * (effect - 1) / (here - 1)


def tell_interval(right: np.ndarray, groups: np.ndarray | None) -> list[float]:
    """Returns the 95 % interval of a share of hits among pictures in groups.

    Shapes:
        right: (n,) bool; groups: (n,) integers.
    """
    effect = measure_design_effect(right, groups)
    return list(wilson_interval(float(np.sum(right)) / effect, len(right) / effect))


def _measure_size(groups: np.ndarray) -> float:
    """Returns the mean, over pictures, of the size of the group that each is in."""
    sizes = np.bincount(np.unique(groups, return_inverse=True)[1]).astype(float)
    return float((sizes**2).sum() / sizes.sum()) if len(sizes) else 1.0
