"""Whether more images would help: probes fitted on shares of the data, and beyond.

The error of a classifier falls with the number of images about as a power law above a
floor: error = a + b * n^-c (Cortes et al., "Learning curves: asymptotic values and
rate of convergence", NIPS 1993; measured for deep networks by Hestness et al.,
arXiv:1712.00409). It is fitted to probes on 10, 25, 50 and 100 % of the training
pictures, judged out of fold, and followed a little beyond.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.insight.folds import deal_folds
from worker.insight.groups import draw_in_groups
from worker.insight.independence import tell_interval
from worker.insight.probe import (
    MOST_FITTED,
    Recipe,
    Report,
    fit_probe,
    report_nothing,
    run_fits,
)

SHARES = (0.1, 0.25, 0.5, 1.0)
FORMULA = "error = a + b * images^-c"
# How far the curve is followed: to so many times the pictures to train on, and not
# beyond so many times those that were fitted, which of large sets are a part.
_AHEAD = (1.5, 2.0, 3.0)
_TWICE = 2.0
_FARTHEST = 4.0
_DRAWS = (4, 3, 2, 1)  # draws of each share in each fold: small ones differ more
_RESAMPLES = 200
# Exponents seen in practice lie between 0.1 and 1 (Hestness et al., section 4).
_EXPONENTS = np.linspace(0.1, 1.0, 19)
_FLOORS = 21
_QUANTILES = (0.025, 0.975)
_CHARGE = 1e-7
_WORTH_POINTS = 1.0  # a gain below it is told as none
_SURE_POINTS = 0.5  # a gain that may be less is not told as one
_APART = 1.2  # times as many pictures as the point before, or it is no other one
_FEWEST_POINTS = 3  # as many as a curve has numbers
_FEWEST_IMAGES = 20  # of fewer, each single picture moves the curve by points
_TOO_FEW = (
    "These are too few pictures to tell whether more would help: they surely would. "
    "Add some first."
)


@dataclass(frozen=True)
class Curve:
    """A fitted power law.

    Args:
        a: Floor of the error, 0 to 1.
        b: Its size above the floor at one image, 0 or more.
        c: How fast it falls, 0.1 to 1.
    """

    a: float
    b: float
    c: float

    def error(self, images: float) -> float:
        """Returns the error that the curve gives for `images` training pictures."""
        return float(min(1.0, self.a + self.b * images**-self.c))


@dataclass(frozen=True)
class Point:
    """Probes on one share of the data.

    Args:
        share: Of the training pictures, 0 to 1.
        images: How many that were.
        hits: For each draw, whether each judged picture was told right.
        labels: Class number of each judged picture.
        groups: Of each judged picture; None for each by itself.

    Shapes:
        hits: (draws, n) float64, 0 or 1.
        labels, groups: (n,) integers.
    """

    share: float
    images: int
    hits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None

    @property
    def accuracy(self) -> float:
        """Returns the mean over draws and pictures."""
        return float(self.hits.mean())


def measure_points(
    features: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    recipe: Recipe,
    groups: np.ndarray | None = None,
    seed: int = 0,
    shares: Sequence[float] = SHARES,
    threads: int | None = None,
    report: Report = report_nothing,
) -> list[Point]:
    """Fits probes on shares of the data and judges them out of fold.

    Args:
        features: Of every image, as `components.reduce_features` gives them.
        labels: Class number of every image.
        rows: Positions to fit and to judge on.
        recipe: How the probes are fitted.
        groups: Of every image; kept together in a fold, and drawn or left as wholes.
        seed: Of folds and draws.
        shares: Ascending, of what is fitted: of more than `MOST_FITTED` pictures those
            are shares of so many. One that adds no picture is left out.
        threads: As for `run_fits`.
        report: Called with finished and all fits.
    """
    rows = np.sort(np.asarray(rows, np.int64))
    own = labels[rows]
    x = np.asarray(features[rows], np.float32)
    own_groups = None if groups is None else groups[rows]
    folds = deal_folds(own, own_groups, seed=seed)
    classes = int(labels.max()) + 1
    fits = _plan_fits(folds, classes, shares)

    def judge(fit: _Fit) -> tuple[int, np.ndarray]:
        others, judged = np.flatnonzero(folds != fit.fold), folds == fit.fold
        random = np.random.default_rng((seed, fit.draw))
        chosen = draw_in_groups(others, own, own_groups, fit.images, random)
        told = fit_probe(x[chosen], own[chosen], recipe).ask(x[judged], classes)
        return len(chosen), told.argmax(axis=1) == own[judged]

    judged = run_fits(judge, fits, threads=threads, report=report)
    points = []
    cut = min(1.0, MOST_FITTED / (len(rows) - np.bincount(folds)).mean())
    for share in sorted({fit.share for fit in fits}):
        own_fits = [at for at, fit in enumerate(fits) if fit.share == share]
        hits = np.zeros((1 + max(fits[at].draw for at in own_fits), len(rows)))
        for at in own_fits:
            hits[fits[at].draw, folds == fits[at].fold] = judged[at][1]
        # Of each class a whole group is drawn: it may be more than was planned.
        images = round(float(np.mean([judged[at][0] for at in own_fits])))
        points.append(Point(share * cut, images, hits, own, own_groups))
    return _part(points)


def _part(points: Sequence[Point]) -> list[Point]:
    """Leaves out those that are hardly smaller than the next: the same groups again."""
    kept: list[Point] = []
    for point in reversed(points):
        if not kept or point.images * _APART <= kept[-1].images:
            kept.append(point)
    return kept[::-1]


@dataclass(frozen=True)
class _Fit:
    """One probe: on so many pictures of all folds but one."""

    share: float
    fold: int
    draw: int
    images: int


def _plan_fits(folds: np.ndarray, classes: int, shares: Sequence[float]) -> list[_Fit]:
    """Returns all probes of all points."""
    counts = np.bincount(folds)
    others = len(folds) - counts
    fits: list[_Fit] = []
    before = 0
    for at, share in enumerate(shares):
        used = np.minimum(others, MOST_FITTED) * share
        images = np.minimum(others, np.maximum(classes, np.round(used))).astype(int)
        if images.sum() <= before:
            continue
        before = int(images.sum())
        fits += [
            _Fit(share, fold, draw, int(images[fold]))
            for fold in range(len(counts))
            for draw in range(_DRAWS[min(at, len(_DRAWS) - 1)])
        ]
    return fits


def fit_curve(images: Sequence[float], errors: Sequence[float]) -> Curve:
    """Returns the power law nearest to the points, by least squares.

    A grid over exponent and floor, each with its best scale: nothing to get stuck in.
    Larger sets count more, since they say more of what comes after them.

    Args:
        images: Ascending, at least two.
        errors: 0 to 1, one each.
    """
    n, error = np.asarray(images, float), np.asarray(errors, float)
    weights = np.sqrt(n)
    c = _EXPONENTS[:, None, None]
    a = np.linspace(0.0, max(0.0, float(error.min())), _FLOORS)[None, :, None]
    basis = n**-c
    top = (weights * basis * (error - a)).sum(axis=-1, keepdims=True)
    b = np.maximum(0, top / (weights * basis**2).sum(axis=-1, keepdims=True))
    misfit = (weights * (error - a - b * basis) ** 2).sum(axis=-1)
    # Of curves that fit alike, the one with the lower floor and the smaller exponent
    # promises less abruptly: a small charge on both decides.
    misfit = misfit + _CHARGE * float(weights.sum()) * (c**2 + a)[..., 0]
    at, floor = np.unravel_index(int(misfit.argmin()), misfit.shape)
    return Curve(float(a[0, floor, 0]), float(b[at, floor, 0]), float(c[at, 0, 0]))


def resample_curves(points: Sequence[Point], *, seed: int = 0) -> list[Curve]:
    """Returns the curves of other draws of the same pictures: the fit's uncertainty.

    The pictures, in whole groups, are drawn anew together for all shares, since they
    are judged on the same ones, and so are the draws of each share.
    """
    random = np.random.default_rng(seed)
    images = [point.images for point in points]
    groups = points[0].groups
    if groups is None:
        groups = np.arange(len(points[0].labels))
    numbers = np.unique(groups, return_inverse=True)[1]
    count = int(numbers.max()) + 1
    curves = []
    for _ in range(_RESAMPLES):
        times = np.bincount(random.integers(count, size=count), minlength=count)
        weights = times[numbers] / times[numbers].sum()
        errors = [
            1
            - point.hits[random.integers(len(point.hits), size=len(point.hits))].mean(
                axis=0
            )
            @ weights
            for point in points
        ]
        curves.append(fit_curve(images, errors))
    return curves


def look_ahead(
    curve: Curve, resampled: Sequence[Curve], images: float
) -> tuple[float, tuple[float, float]]:
    """Returns the accuracy to expect with `images`, and its 95 % interval."""
    others = [1 - one.error(images) for one in resampled]
    low, high = np.quantile(others, _QUANTILES)
    expected = 1 - curve.error(images)
    return expected, (min(float(low), expected), max(float(high), expected))


def look_at_gain(
    curve: Curve, resampled: Sequence[Curve], images: float
) -> tuple[float, tuple[float, float]]:
    """Returns by how much twice `images` are more accurate, and its 95 % interval.

    Curves that lie high or low do so at both ends: a gain is told far more closely than
    what it leads to. None is negative, since no curve rises.
    """
    found = [one.error(images) - one.error(_TWICE * images) for one in resampled]
    low, high = np.quantile(found, _QUANTILES)
    expected = curve.error(images) - curve.error(_TWICE * images)
    return expected, (min(float(low), expected), max(float(high), expected))


def describe_curve(
    points: Sequence[Point], images: int, *, seed: int = 0
) -> dict[str, Any]:
    """Returns points, fit and outlook of the section `learning_curve`.

    Args:
        points: As `measure_points` returns them; of too few no curve is told.
        images: How many pictures there are to train on.
        seed: Draws the pictures anew.
    """
    told = {"points": [_describe_point(point) for point in points]}
    if len(points) < _FEWEST_POINTS or points[-1].images < _FEWEST_IMAGES:
        return told | {"fit": None, "ahead": [], "sentence": _TOO_FEW}
    curve = fit_curve(
        [point.images for point in points], [1 - point.accuracy for point in points]
    )
    resampled = resample_curves(points, seed=seed)
    ahead = {}
    for times in _AHEAD:
        more = round(images * times)
        if more > _FARTHEST * points[-1].images:
            break
        accuracy, interval = look_ahead(curve, resampled, more)
        ahead[times] = {"images": more, "accuracy": accuracy, "interval": [*interval]}
    return told | {
        "fit": {"formula": FORMULA, "a": curve.a, "b": curve.b, "c": curve.c},
        "ahead": list(ahead.values()),
        "sentence": (
            _sentence(*look_at_gain(curve, resampled, images))
            if _TWICE in ahead
            else _too_far(points[-1].images, images)
        ),
    }


def _describe_point(point: Point) -> dict[str, Any]:
    return {
        "share": point.share,
        "images": point.images,
        "accuracy": point.accuracy,
        "interval": tell_interval(point.hits.mean(axis=0), point.groups),
    }


def _too_far(measured: int, images: int) -> str:
    return (
        f"Probes were fitted on up to {measured:,} pictures. Whether more than the "
        f"{images:,} that there are would help lies too far beyond them to be told; "
        "the gains by class say where it might."
    )


def _sentence(gain: float, interval: tuple[float, float]) -> str:
    points, low, high = (100 * share for share in (gain, *interval))
    if points >= _WORTH_POINTS and low >= _SURE_POINTS:
        return (
            f"More pictures would help: twice as many would buy about {points:.1f} "
            f"points ({low:.1f} to {high:.1f})."
        )
    if high < 2 * _WORTH_POINTS:
        return (
            "More pictures like these would hardly help: twice as many would buy about "
            f"{points:.1f} points (at most about {high:.1f})."
        )
    return (
        "Whether more pictures would help cannot be told from these: twice as many "
        f"would buy between {low:.1f} and {high:.1f} points."
    )
