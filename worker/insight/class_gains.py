"""What more images of one class would buy: measured by taking half of its own away.

A probe fitted on all pictures, and one on all but half of a class, are judged on the
same pictures. The difference, followed along the dataset's own learning curve, says
what as many again would bring, or part of them: to the class itself and to all of the
dataset, which may lose elsewhere what the class wins. The half that is left counts
double: else the probe would also learn that the class is rarer than it is. Pictures of
one group leave together: half as many pictures of every patient teach nearly as much,
half as many patients do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.insight.folds import deal_folds
from worker.insight.groups import draw_in_groups, number_groups
from worker.insight.probe import (
    MOST_FITTED,
    Recipe,
    Report,
    fit_probe,
    report_nothing,
    run_fits,
)

MOST_CLASSES = 12  # the weakest ones; each costs some fits
USUAL_EXPONENT = 0.5  # of a learning curve, where a dataset shows none of its own
_DRAWS = 2
_RESAMPLES = 500
_QUANTILES = (0.025, 0.975)
_SHARE_MORE = 0.5  # of a class's pictures: what the advice is about
_WORTH_POINTS = 0.5  # of recall; below it the advice says "nothing"
_POINTS = 100
_FEWEST = 10  # pictures of a class that say anything about more of them
_FEWEST_GROUPS = 4  # of a class: half of fewer cannot be taken
# What is left of a class where whole groups leave; further from half it is another
# question that is answered.
_LEAST_LEFT, _MOST_LEFT = 0.25, 0.75
_ALL = -1  # in place of a class: none has lost pictures


@dataclass(frozen=True)
class Gain:
    """What more pictures of one class would buy.

    Args:
        label: Class number.
        images: How many it has in training and validation.
        groups: In how many groups they are; a picture without any is one.
        more: How many more the advice is about.
        points: Of its recall, percentage points.
        interval: Of 95 %.
        overall_points: Of the accuracy on all pictures, percentage points.
        recall: What the probe has now, 0 to 1.
        left: The share of its pictures that was left where half was to be taken, of
            several draws the one furthest from it.
    """

    label: int
    images: int
    groups: int
    more: int
    points: float
    interval: tuple[float, float]
    overall_points: float
    recall: float
    left: float = 0.5


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
        groups: Of every image; kept together in a fold, and drawn or left as wholes.
        seed: Of folds and draws.
        threads: As for `run_fits`.
        report: Called with finished and all fits.
    """
    everyone, random = np.asarray(rows), np.random.default_rng(seed)
    if groups is None:
        groups = np.arange(len(labels))
    rows = draw_in_groups(everyone, labels, groups, MOST_FITTED, random)
    own, x = labels[rows], np.asarray(features[rows], np.float32)
    folds = deal_folds(own, groups[rows], seed=seed)
    classes, count = int(labels.max()) + 1, int(folds.max()) + 1
    material = _Material(x, own, groups[rows], folds, recipe, classes, seed)

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
        theirs = groups[everyone[labels[everyone] == label]]
        left = material.measure_left(fits)
        gains.append(
            _gain(material, full, lost, label, theirs, left=left, exponent=exponent)
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
    groups: np.ndarray
    folds: np.ndarray
    recipe: Recipe
    classes: int
    seed: int

    def judge(self, fit: _Fit) -> np.ndarray:
        """Returns whether each picture of the fold is told right."""
        judged, known = self.folds == fit.fold, self.folds != fit.fold
        twice = None
        if fit.label != _ALL:
            known[self._draw_half(fit)] = False
            twice = self.labels[known] == fit.label
        if not known.any():
            return np.zeros(int(judged.sum()), bool)
        probe = fit_probe(self.x[known], self.labels[known], self.recipe, twice)
        told = probe.ask(self.x[judged], self.classes).argmax(axis=1)
        return told == self.labels[judged]

    def measure_left(self, fits: Sequence[_Fit]) -> np.ndarray:
        """Returns the shares of a class that `fits` leave: `(fits,)`."""
        count = int((self.labels == fits[0].label).sum())
        return 1 - np.array([len(self._draw_half(fit)) for fit in fits]) / count

    def _draw_half(self, fit: _Fit) -> np.ndarray:
        """Returns the pictures to take away: about half, in whole groups."""
        random = np.random.default_rng((self.seed, fit.label, fit.draw))
        of_class = np.flatnonzero(self.labels == fit.label)
        numbers = number_groups(self.groups[of_class])
        order = random.permutation(np.arange(numbers.max() + 1))
        taken = np.cumsum([0, *np.bincount(numbers)[order]])
        nearest = np.abs(taken - len(of_class) // 2).argmin()
        return of_class[np.isin(numbers, order[:nearest])]


def _weakest(right: np.ndarray, labels: np.ndarray) -> list[int]:
    known = np.unique(labels)
    recall = [right[labels == label].mean() for label in known]
    return [int(known[at]) for at in np.argsort(recall, kind="stable")[:MOST_CLASSES]]


def _gain(
    material: _Material,
    full: np.ndarray,
    lost: np.ndarray,
    label: int,
    groups: np.ndarray,
    *,
    left: np.ndarray,
    exponent: float,
) -> Gain:
    """Returns the gain of the class `label`.

    Shapes:
        full: (judged,) whether each is told right by the probe that knew all.
        lost: (judged,) by how much less those told it that knew half of the class.
        groups: (images,) of all pictures of the class, those not drawn too.
        left: (fits,) shares of the class that were left.
    """
    is_own = material.labels == label
    own, images = lost[is_own], len(groups)
    seen, more = len(own), max(1, _round(images * _SHARE_MORE))
    # Along a * n^-c, from what was left to n was lost; from n to n + more is what may
    # be won.
    scale = (images**-exponent - (images + more) ** -exponent) / (
        ((seen * np.clip(left, _LEAST_LEFT, _MOST_LEFT)) ** -exponent).mean()
        - seen**-exponent
    )
    means = _resample(own, number_groups(material.groups[is_own]), label)
    low, high = np.quantile(means, _QUANTILES) * scale * _POINTS
    recall = float(full[is_own].mean())
    most = _POINTS * (1 - recall)  # no class goes beyond all of it
    return Gain(
        label=label,
        images=images,
        groups=len(np.unique(groups)),
        more=more,
        points=min(most, float(own.mean() * scale * _POINTS)),
        interval=(min(most, float(low)), min(most, float(high))),
        overall_points=float(lost.mean() * scale * _POINTS),
        recall=recall,
        left=float(left[np.abs(left - 0.5).argmax()]),
    )


def _resample(values: np.ndarray, numbers: np.ndarray, seed: int) -> np.ndarray:
    """Returns the means of other draws of the same groups."""
    sums, sizes = np.bincount(numbers, weights=values), np.bincount(numbers)
    random = np.random.default_rng(seed)
    draws = random.integers(len(sums), size=(_RESAMPLES, len(sums)))
    return sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)


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
    if gain.groups < _FEWEST_GROUPS:
        return (
            f"The {gain.images:,} pictures of “{label}” are of {gain.groups} "
            f"group{'s' if gain.groups > 1 else ''}: too few to tell what others would "
            "buy. Add some first."
        )
    if not _LEAST_LEFT <= gain.left <= _MOST_LEFT:
        return (
            f"Most of the {gain.images:,} pictures of “{label}” are of one group: too "
            "few others to tell what more would buy. Add some first."
        )
    # As many of the same patients are not what was measured.
    where = " in new groups" if 2 * gain.groups <= gain.images else ""
    if low > 0 and gain.points >= _WORTH_POINTS:
        return (
            f"About {gain.more:,} more pictures of “{label}”{where} would buy about "
            f"{_say(gain.points)} points of its recall ({_say(low)} to {_say(high)}) "
            f"and about {_say(gain.overall_points)} of the accuracy on all: {now}."
        )
    if high < _WORTH_POINTS * 2:
        return (
            f"More pictures of “{label}”{where} would buy nothing that can be "
            "measured: "
            f"{now}, and half as many teach as much."
        )
    return (
        f"What more pictures of “{label}”{where} would buy cannot be told from so few: "
        f"between {_say(low)} and {_say(high)} points of its recall; {now}."
    )
