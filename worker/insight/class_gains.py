"""What more images of one class would buy: measured by taking half of its own away.

A probe fitted on all pictures, and one on all but half of a class, are judged on the
same pictures. The difference, followed along the dataset's own learning curve, says
what as many again would bring, or part of them. The half that is left counts double:
else the probe would also learn that the class is rarer than it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.insight.cross_validation import MOST_FITTED, deal_folds, fit_probe
from worker.training.regression import draw_rows

_MOST_CLASSES = 12  # the weakest ones; each costs some fits
_DRAWS = 2
_RESAMPLES = 500
_QUANTILES = (0.025, 0.975)
_SHARE_MORE = 0.5  # of a class's pictures: what the advice is about
_WORTH_POINTS = 0.5  # of recall; below it the advice says "nothing"
_POINTS = 100
_FEWEST = 10  # pictures of a class that say anything about more of them
_KEPT_COUNTS = 2.0


@dataclass(frozen=True)
class Gain:
    """What more pictures of one class would buy.

    Args:
        label: Class number.
        images: How many it has in training and validation.
        more: How many more the advice is about.
        points: Of its recall, percentage points.
        interval: Of 95 %.
        recall: What the probe has now, 0 to 1.
    """

    label: int
    images: int
    more: int
    points: float
    interval: tuple[float, float]
    recall: float


def measure_gains(
    features: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    strength: float,
    exponent: float,
    groups: np.ndarray | None = None,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Gain]:
    """Returns the gain of each class, the largest first; of the weakest ones only.

    Args:
        features: Of every image, as `reduce_features` gives them.
        labels: Class number of every image.
        rows: Positions to fit and to judge on.
        strength: Of the probe's penalty.
        exponent: Of the dataset's learning curve.
        groups: Of every image; kept together in a fold.
        seed: Of folds and draws.
        report: Called with finished and all fits.
    """
    counts = np.bincount(labels[rows], minlength=int(labels.max()) + 1)
    random = np.random.default_rng(seed)
    rows = np.sort(draw_rows(np.asarray(rows), labels, MOST_FITTED, random))
    own, x = labels[rows], np.asarray(features[rows], np.float32)
    folds = deal_folds(own, None if groups is None else groups[rows], seed=seed)
    count, classes = int(folds.max()) + 1, int(labels.max()) + 1
    material = _Material(x, own, folds, strength, classes)
    full = _judge(material)
    chosen = _weakest(full, own)
    total, done = len(chosen) * _DRAWS * count, 0
    gains = []
    for label in chosen:
        halves = []
        for draw in range(_DRAWS):
            random = np.random.default_rng((seed, label, draw))
            dropped = random.permutation(np.flatnonzero(own == label))
            kept = np.ones(len(own), bool)
            kept[dropped[: len(dropped) // 2]] = False
            halves.append(_judge(material, kept, label))
            done += count
            report(done, total)
        here = own == label
        judged = np.array([half[here] for half in halves])
        gains.append(_gain(label, int(counts[label]), full[here], judged, exponent))
    return sorted(gains, key=lambda gain: -gain.points)


def describe_gains(
    gains: Sequence[Gain], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the list `by_class` of the section `learning_curve`."""
    return [
        {
            "label": classes[gain.label],
            "images": gain.images,
            "more": gain.more,
            "gain_points": gain.points,
            "interval": list(gain.interval),
            "sentence": _sentence(gain, classes[gain.label]),
        }
        for gain in gains
    ]


@dataclass(frozen=True)
class _Material:
    x: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    strength: float
    classes: int


def _judge(
    of: _Material,
    kept: np.ndarray | None = None,
    only: int | None = None,
) -> np.ndarray:
    """Returns whether each picture is told right, out of fold; or those of `only`."""
    x, labels, folds = of.x, of.labels, of.folds
    right = np.zeros(len(labels))
    for fold in range(int(folds.max()) + 1):
        fitted = folds != fold if kept is None else (folds != fold) & kept
        judged = folds == fold if only is None else (folds == fold) & (labels == only)
        if not judged.any() or not fitted.any():
            continue
        counts = None
        if only is not None:
            counts = np.where(labels[fitted] == only, _KEPT_COUNTS, 1.0)
        probe = fit_probe(x[fitted], labels[fitted], of.strength, counts)
        told = probe.ask(x[judged], of.classes).argmax(axis=1)
        right[judged] = told == labels[judged]
    return right


def _weakest(right: np.ndarray, labels: np.ndarray) -> list[int]:
    known = np.unique(labels)
    recall = [right[labels == label].mean() for label in known]
    return [int(known[at]) for at in np.argsort(recall, kind="stable")[:_MOST_CLASSES]]


def _gain(
    label: int,
    images: int,
    full: np.ndarray,
    halves: np.ndarray,
    exponent: float,
) -> Gain:
    """Returns the gain of a class of `images` pictures, judged on its own.

    Shapes:
        full: (judged,) whether each is told right by the probe that knew all.
        halves: (draws, judged) by those that knew half of the class.
    """
    lost = full - halves.mean(axis=0)
    seen, more = len(full), max(1, _round(images * _SHARE_MORE))
    # Along a * n^-c, from n/2 to n was lost; from n to n + more is what may be won.
    scale = (images**-exponent - (images + more) ** -exponent) / (
        (seen / 2) ** -exponent - seen**-exponent
    )
    random = np.random.default_rng(label)
    draws = random.integers(seen, size=(_RESAMPLES, seen))
    low, high = np.quantile(lost[draws].mean(axis=1), _QUANTILES) * scale * _POINTS
    recall = float(full.mean())
    left = _POINTS * (1 - recall)  # no class goes beyond all of it
    points = min(left, float(lost.mean() * scale * _POINTS))
    interval = (min(left, float(low)), min(left, float(high)))
    return Gain(label, images, more, points, interval, recall)


def _round(images: float) -> int:
    """Rounds to a number that people would say: 17, 120, 1,500."""
    step = 1 if images < 20 else 10 if images < 500 else 100  # noqa: PLR2004
    return int(step * round(images / step))


def _sentence(gain: Gain, label: str) -> str:
    now = f"{gain.recall:.0%} of its {gain.images:,} are recognised now"
    low, high = gain.interval
    if gain.images < _FEWEST:
        return (
            f"“{label}” has {gain.images:,} pictures: too few to tell what more would "
            "buy. Add some first."
        )
    if low > 0 and gain.points >= _WORTH_POINTS:
        return (
            f"About {gain.more:,} more pictures of “{label}” would buy about "
            f"{gain.points:.0f} points of it ({low:.0f} to {high:.0f}): {now}."
        )
    if high < _WORTH_POINTS * 2:
        return (
            f"More pictures of “{label}” would buy nothing that can be measured: "
            f"{now}, and half as many teach as much."
        )
    return (
        f"What more pictures of “{label}” would buy cannot be told from so few: "
        f"between {low:.0f} and {high:.0f} points; {now}."
    )
