"""What more images of one class would buy: measured by taking half of its own away.

A probe fitted on all pictures, and one on all but half of a class, are judged on the
same pictures. The difference, followed along the dataset's own learning curve, says
what as many again would bring, or part of them: to the class itself and to all of the
dataset, which may lose elsewhere what the class wins. The half that is left counts
double: else the probe would also learn that the class is rarer than it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.insight.folds import deal_folds
from worker.insight.probe import (
    MOST_FITTED,
    Recipe,
    Report,
    fit_probe,
    report_nothing,
    run_fits,
)
from worker.training.regression import draw_rows

MOST_CLASSES = 12  # the weakest ones; each costs some fits
USUAL_EXPONENT = 0.5  # of a learning curve, where a dataset shows none of its own
_DRAWS = 2
_RESAMPLES = 500
_QUANTILES = (0.025, 0.975)
_SHARE_MORE = 0.5  # of a class's pictures: what the advice is about
_WORTH_POINTS = 0.5  # of recall; below it the advice says "nothing"
_POINTS = 100
_FEWEST = 10  # pictures of a class that say anything about more of them
_ALL = -1  # in place of a class: none has lost pictures


@dataclass(frozen=True)
class Gain:
    """What more pictures of one class would buy.

    Args:
        label: Class number.
        images: How many it has in training and validation.
        more: How many more the advice is about.
        points: Of its recall, percentage points.
        interval: Of 95 %.
        overall_points: Of the accuracy on all pictures, percentage points.
        recall: What the probe has now, 0 to 1.
    """

    label: int
    images: int
    more: int
    points: float
    interval: tuple[float, float]
    overall_points: float
    recall: float


def measure_gains(
    features: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    recipe: Recipe,
    exponent: float,
    groups: np.ndarray | None = None,
    seed: int = 0,
    threads: int | None = None,
    report: Report = report_nothing,
) -> list[Gain]:
    """Returns the gain of each class, the largest first; of the weakest ones only.

    Args:
        features: Of every image, as `components.reduce_features` gives them.
        labels: Class number of every image.
        rows: Positions to fit and to judge on.
        recipe: How the probes are fitted.
        exponent: Of the dataset's learning curve.
        groups: Of every image; kept together in a fold.
        seed: Of folds and draws.
        threads: As for `run_fits`.
        report: Called with finished and all fits.
    """
    counts = np.bincount(labels[rows], minlength=int(labels.max()) + 1)
    random = np.random.default_rng(seed)
    rows = np.sort(draw_rows(np.asarray(rows), labels, MOST_FITTED, random))
    own, x = labels[rows], np.asarray(features[rows], np.float32)
    folds = deal_folds(own, None if groups is None else groups[rows], seed=seed)
    material = _Material(x, own, folds, recipe, int(labels.max()) + 1, seed)
    count = int(folds.max()) + 1

    def judge(fits: Sequence[_Fit]) -> np.ndarray:
        right = np.zeros((1 + max(fit.draw for fit in fits), len(own)))
        answers = run_fits(material.judge, fits, threads=threads)
        for fit, told in zip(fits, answers, strict=True):
            right[fit.draw, folds == fit.fold] = told
        return right

    full = judge([_Fit(_ALL, 0, fold) for fold in range(count)])[0]
    chosen = _weakest(full, own)
    gains = []
    for at, label in enumerate(chosen):
        fits = [_Fit(label, d, f) for d in range(_DRAWS) for f in range(count)]
        lost = full - judge(fits).mean(axis=0)
        report(at + 1, len(chosen))
        images = int(counts[label])
        gains.append(
            _gain(
                own == label, full, lost, label=label, images=images, exponent=exponent
            )
        )
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
            "overall_points": gain.overall_points,
            "sentence": _sentence(gain, classes[gain.label]),
        }
        for gain in gains
    ]


@dataclass(frozen=True)
class _Fit:
    """One probe: of all folds but one, without half of one class."""

    label: int
    draw: int
    fold: int


@dataclass(frozen=True)
class _Material:
    x: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    recipe: Recipe
    classes: int
    seed: int

    def judge(self, fit: _Fit) -> np.ndarray:
        """Returns whether each picture of the fold is told right."""
        judged, known = self.folds == fit.fold, self.folds != fit.fold
        twice = None
        if fit.label != _ALL:
            random = np.random.default_rng((self.seed, fit.label, fit.draw))
            of_class = random.permutation(np.flatnonzero(self.labels == fit.label))
            known[of_class[: len(of_class) // 2]] = False
            twice = self.labels[known] == fit.label
        if not known.any():
            return np.zeros(int(judged.sum()), bool)
        probe = fit_probe(self.x[known], self.labels[known], self.recipe, twice)
        told = probe.ask(self.x[judged], self.classes).argmax(axis=1)
        return told == self.labels[judged]


def _weakest(right: np.ndarray, labels: np.ndarray) -> list[int]:
    known = np.unique(labels)
    recall = [right[labels == label].mean() for label in known]
    return [int(known[at]) for at in np.argsort(recall, kind="stable")[:MOST_CLASSES]]


def _gain(
    is_own: np.ndarray,
    full: np.ndarray,
    lost: np.ndarray,
    *,
    label: int,
    images: int,
    exponent: float,
) -> Gain:
    """Returns the gain of the class `label`, of `images` pictures.

    Shapes:
        is_own: (judged,) bool: which pictures are of the class.
        full: (judged,) whether each is told right by the probe that knew all.
        lost: (judged,) by how much less those told it that knew half of the class.
    """
    own = lost[is_own]
    seen, more = len(own), max(1, _round(images * _SHARE_MORE))
    # Along a * n^-c, from n/2 to n was lost; from n to n + more is what may be won.
    scale = (images**-exponent - (images + more) ** -exponent) / (
        (seen / 2) ** -exponent - seen**-exponent
    )
    random = np.random.default_rng(label)
    draws = random.integers(seen, size=(_RESAMPLES, seen))
    low, high = np.quantile(own[draws].mean(axis=1), _QUANTILES) * scale * _POINTS
    recall = float(full[is_own].mean())
    left = _POINTS * (1 - recall)  # no class goes beyond all of it
    return Gain(
        label=label,
        images=images,
        more=more,
        points=min(left, float(own.mean() * scale * _POINTS)),
        interval=(min(left, float(low)), min(left, float(high))),
        overall_points=float(lost.mean() * scale * _POINTS),
        recall=recall,
    )


def _round(images: float) -> int:
    """Rounds to a number that people would say: 17, 120, 1,500."""
    step = 1 if images < 20 else 10 if images < 500 else 100  # noqa: PLR2004
    return int(step * round(images / step))


def _say(points: float) -> str:
    """Points as people would say them: 0.4, 3, 12."""
    return f"{points:.1f}" if abs(points) < 2 else f"{points:.0f}"  # noqa: PLR2004


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
            f"{_say(gain.points)} points of its recall ({_say(low)} to {_say(high)}) "
            f"and about {_say(gain.overall_points)} of the accuracy on all: {now}."
        )
    if high < _WORTH_POINTS * 2:
        return (
            f"More pictures of “{label}” would buy nothing that can be measured: "
            f"{now}, and half as many teach as much."
        )
    return (
        f"What more pictures of “{label}” would buy cannot be told from so few: "
        f"between {_say(low)} and {_say(high)} points of its recall; {now}."
    )
