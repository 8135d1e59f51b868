"""Out-of-fold predictions: what a linear probe says of pictures it has not seen.

Folds are dealt by group, stratified by class: copies of one picture lie in one fold, or
a flipped label would be confirmed by its own twin. The penalty is chosen once, on the
first fold, and kept for the others.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from worker.training.regression import draw_rows

FOLDS = 5
# With a quarter of them a probe lost a point on photographs of waste, with all features
# it gained nothing. In memory, 100,000 pictures as components are 200 MB.
COMPONENTS, COMPONENTS_OF_MANY = 1024, 512
_MANY = 30_000  # images
MOST_FITTED = 20_000  # rows of one fit; more make it slower, not better
_MOST_ITERATIONS = 200
# Inverse strengths of the penalty, on components scaled so that the first has
# variance 1.
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
_SMALLEST_PROBABILITY = 1e-7
_SAMPLE_ROWS = 20_000  # from which the components are computed
_BLOCK_ROWS = 2048
_POWER_ITERATIONS = 3


@dataclass(frozen=True)
class Probed:
    """What the probe says of every row that it was asked about.

    Args:
        rows: Positions in the dataset, ascending.
        probabilities: Out of fold; 0 for a class that the other folds lack.
        strength: The inverse strength of the penalty that was chosen.

    Shapes:
        rows: (n,) int64.
        probabilities: (n, classes) float32.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    strength: float

    @property
    def predicted(self) -> np.ndarray:
        """Returns the class said of each row: `(n,)`."""
        return self.probabilities.argmax(axis=1)


def reduce_features(features: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Returns the leading principal components of standardised features.

    A probe with a quadratic penalty hardly tells them from the features themselves, and
    whatever is fitted many times is fitted on them.

    Args:
        features: May be memory-mapped; read in blocks.
        seed: Draws the rows from which the components of a large set are computed.

    Shapes:
        features: (n, features) float32.
        result: (n, at most `COMPONENTS`) float32, the first with variance 1.
    """
    count = len(features)
    random = np.random.default_rng(seed)
    chosen = np.arange(count)
    if count > _SAMPLE_ROWS:
        chosen = np.sort(random.choice(count, _SAMPLE_ROWS, replace=False))
    sample = np.nan_to_num(np.asarray(features[chosen], np.float32))
    mean, scale = sample.mean(axis=0), sample.std(axis=0)
    varying = scale[scale > 0]
    floor = 1e-3 * float(np.median(varying)) if len(varying) else 1.0
    weight = np.where(scale > floor, 1 / np.maximum(scale, floor), 0).astype(np.float32)
    sample = (sample - mean) * weight
    most = COMPONENTS_OF_MANY if count > _MANY else COMPONENTS
    kept = min(most, *sample.shape)
    # One thread here and below: how BLAS splits its sums must not depend on the load of
    # the machine, and its threads wait for each other where others compute too.
    with threadpool_limits(1):
        _, values, directions = randomized_svd(
            sample,
            kept,
            n_iter=_POWER_ITERATIONS,  # pyright: ignore[reportArgumentType]
            random_state=seed,
        )
    first = values[0] / np.sqrt(max(1, len(sample) - 1))
    basis = (directions.T / max(float(first), 1e-12)).astype(np.float32)
    reduced = np.empty((count, kept), np.float32)
    for at in range(0, count, _BLOCK_ROWS):
        block = np.nan_to_num(np.asarray(features[at : at + _BLOCK_ROWS], np.float32))
        reduced[at : at + _BLOCK_ROWS] = ((block - mean) * weight) @ basis
    return reduced


def deal_folds(
    labels: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0
) -> np.ndarray:
    """Returns the fold of each row, 0 to at most `FOLDS` - 1.

    Args:
        labels: Class numbers.
        groups: Rows with one number stay together. Defaults to each by itself.
        seed: Of the dealing.

    Shapes:
        labels, groups, result: (n,) integers.
    """
    _, numbers = np.unique(
        np.arange(len(labels)) if groups is None else groups, return_inverse=True
    )
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


def cross_validate(
    features: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    classes: int,
    groups: np.ndarray | None = None,
    strength: float | None = None,
    seed: int = 0,
) -> Probed:
    """Asks a probe about every one of `rows`, each time fitted on the other folds.

    Args:
        features: Of every image, best as `reduce_features` gives them.
        labels: Class number of every image.
        rows: Positions to ask about and to fit on.
        classes: How many classes there are.
        groups: Of every image; see `deal_folds`.
        strength: Inverse strength of the penalty. Defaults to the one that does best on
            the first fold.
        seed: Of the dealing and of drawing from large sets.

    Shapes:
        features: (images, features) float32.
        labels, groups: (images,) integers.
        rows: (n,) integers.
    """
    rows = np.sort(np.asarray(rows, np.int64))
    own = labels[rows]
    folds = deal_folds(own, None if groups is None else groups[rows], seed=seed)
    x = np.asarray(features[rows], np.float32)
    probabilities = np.zeros((len(rows), classes), np.float32)
    random = np.random.default_rng(seed)
    for fold in range(int(folds.max()) + 1):
        held_out = np.flatnonzero(folds == fold)
        others = draw_rows(np.flatnonzero(folds != fold), own, MOST_FITTED, random)
        if strength is None:
            strength = choose_strength(x, own, others, held_out)
        probabilities[held_out] = fit_probe(x[others], own[others], strength).ask(
            x[held_out], classes
        )
    return Probed(rows, probabilities, strength or 1.0)


@dataclass(frozen=True)
class Probe:
    """A fitted linear classifier; one that has seen a single class always says it."""

    fitted: LogisticRegression | None
    only: int = 0

    def ask(self, x: np.ndarray, classes: int) -> np.ndarray:
        """Returns probabilities over all classes.

        Shapes:
            x: (n, features).
            result: (n, classes) float32.
        """
        told = np.zeros((len(x), classes), np.float32)
        if self.fitted is None:
            told[:, self.only] = 1
        else:
            with threadpool_limits(1):
                told[:, self.fitted.classes_] = self.fitted.predict_proba(x)
        return told


def fit_probe(
    x: np.ndarray,
    labels: np.ndarray,
    strength: float,
    weights: np.ndarray | None = None,
) -> Probe:
    """Fits a logistic regression with a quadratic penalty.

    Args:
        x: What it sees.
        labels: Class numbers.
        strength: Inverse strength of the penalty.
        weights: What each row counts. Defaults to 1.

    Shapes:
        x: (n, features).
        labels, weights: (n,).
    """
    if len(np.unique(labels)) < 2:  # noqa: PLR2004 - nothing to tell apart
        return Probe(None, int(labels[0]) if len(labels) else 0)
    fit = LogisticRegression(C=strength, max_iter=_MOST_ITERATIONS)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return Probe(fit.fit(x, labels, sample_weight=weights))


def choose_strength(
    x: np.ndarray, labels: np.ndarray, train: np.ndarray, held_out: np.ndarray
) -> float:
    """Returns the penalty under which held-out rows are most likely."""
    classes = int(labels.max()) + 1

    def loss(strength: float) -> float:
        told = fit_probe(x[train], labels[train], strength).ask(x[held_out], classes)
        truths = told[np.arange(len(held_out)), labels[held_out]]
        return float(-np.log(np.maximum(truths, _SMALLEST_PROBABILITY)).mean())

    return min(_STRENGTHS, key=loss)
