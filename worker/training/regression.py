"""Logistic regression on features: what a linear classifier reaches on a frozen base.

A softmax layer on fixed features is a convex problem: L-BFGS finds its minimum in
seconds, where gradient steps from random weights need epochs to come near.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from shared.errors import UserError
from worker.training.mapped_files import PageBudget

# The rows to fit and those held out are in memory in float64, and nothing else of their
# size is: 26,000 rows at 1,280 features. A tenth at most is held out.
_MOST_BYTES = 256 << 20
_MOST_HELD_OUT = 0.1
_BLOCK_ROWS = 512
_MOST_ITERATIONS = 200
# Inverse strengths of the penalty on weights of standardised features, from far too
# strong to far too weak for some thousand rows; validation decides.
_STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
_MOST_WORSE = 2  # strengths in a row that were no better: those beyond are not tried
# A feature that varies by less than this share of what is usual stays without weight:
# divided by so little, rounding would look like knowledge.
_SMALLEST_DEVIATION = 1e-3
_SMALLEST_PROBABILITY = 1e-7  # as in Keras's own cross-entropy


@dataclass(frozen=True)
class Regression:
    """A linear classifier of standardised features.

    Args:
        mean: Of each feature over the rows that were fitted.
        scale: Its standard deviation; 1 for a feature that never changes.
        kernel: Weights; 0 for a feature that never changes.
        bias: One per class.

    Shapes:
        mean, scale: (features,) float64.
        kernel: (features, classes) float64.
        bias: (classes,) float64.
    """

    mean: np.ndarray
    scale: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    def measure_loss(self, features: np.ndarray, labels: np.ndarray) -> float:
        """Returns the mean log-loss, nats.

        Shapes:
            features: (n, features).
            labels: (n,) class numbers.
        """
        x = _standardised(np.array(features, np.float64), self.mean, self.scale)
        scores = x @ self.kernel + self.bias
        scores -= scores.max(axis=1, keepdims=True)
        shares = np.exp(scores)
        shares /= shares.sum(axis=1, keepdims=True)
        truths = shares[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(truths, _SMALLEST_PROBABILITY)).mean())


def fit_regression(
    views: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    train: np.ndarray,
    held_out: np.ndarray,
    classes: int,
    seed: int,
    class_weights: np.ndarray | None = None,
) -> Regression:
    """Fits the regression whose penalty does best on held-out rows.

    Args:
        views: Features of the pictures as they are and of augmented copies.
        labels: Class numbers.
        train: Rows to fit, in every view; of more than the memory allows as many are
            drawn.
        held_out: Rows whose mean log-loss, in the first view, chooses the penalty.
        classes: How many there are.
        seed: The run's seed.
        class_weights: What a picture of each class counts. Defaults to 1.

    Raises:
        UserError: When a feature is no number.

    Shapes:
        views: one (rows, features) float32 each.
        labels: (rows,) integers.
    """
    features = views[0].shape[1]
    held_out = held_out[: _count_held_out(features)]
    fitted = count_fitted(features, len(train), len(views), len(held_out))
    random = np.random.default_rng(seed)
    if fitted < len(train):
        train = draw_rows(train, labels, fitted, random)
    x, judged = _gather(views, train), _gather(views[:1], held_out)
    y = np.tile(labels[train], len(views))
    mean, scale = _measure_spread(x)
    best = _fit(
        _standardised(x, mean, scale),
        y,
        _standardised(judged, mean, scale),
        labels[held_out],
        None if class_weights is None else class_weights[y],
    )
    weights, biases = _as_softmax(best)
    kernel, bias = _for_all_classes(weights, biases, best.classes_, classes)
    return Regression(mean, scale, kernel, bias)


def count_fitted(features: int, train: int, views: int, held_out: int) -> int:
    """Returns how many pictures the regression fits, each in every view.

    Args:
        features: Of one picture.
        train: Pictures to fit.
        views: Of each of them.
        held_out: Pictures that choose the penalty.
    """
    most_rows = _MOST_BYTES // (8 * features)
    most_rows -= min(held_out, _count_held_out(features))
    return train if train * views <= most_rows else most_rows // views


def _count_held_out(features: int) -> int:
    return max(1, int(_MOST_HELD_OUT * (_MOST_BYTES // (8 * features))))


def draw_rows(
    rows: np.ndarray, labels: np.ndarray, most: int, random: np.random.Generator
) -> np.ndarray:
    """Returns about `most` of `rows`, of every class its share and one at least.

    Args:
        rows: Positions in `labels`.
        labels: Class numbers.
        most: 1 or more; all rows, if there are no more.
        random: Draws them.
    """
    share = min(1.0, most / len(rows))
    drawn = [
        random.choice(of_class, max(1, round(share * len(of_class))), replace=False)
        for number in np.unique(labels[rows])
        for of_class in [rows[labels[rows] == number]]
    ]
    return np.sort(np.concatenate(drawn))


def _gather(views: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Copies `rows` of every view, one after the other, into one float64 array."""
    x = np.empty((len(views) * len(rows), views[0].shape[1]))
    budget = PageBudget(views)
    for number, view in enumerate(views):
        for at in range(0, len(rows), _BLOCK_ROWS):
            block = rows[at : at + _BLOCK_ROWS]
            first = number * len(rows) + at
            x[first : first + len(block)] = view[block]
            budget.spend(len(block), view[0].nbytes)
    total = x.sum()  # of numbers as small as features are, it is one
    if not np.isfinite(total):
        raise UserError(
            "The base model says something of these pictures that is no number, so no "
            "head can learn from it: its weights hold values that are no numbers, or "
            "the precision is too small for them. Choose other `weights`.",
            field="training.weights",
        )
    return x


def _measure_spread(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each feature's mean, and its deviation, 1 where it never changes."""
    mean = x.mean(axis=0)
    squares = np.zeros(x.shape[1])
    for at in range(0, len(x), _BLOCK_ROWS):
        squares += np.square(x[at : at + _BLOCK_ROWS] - mean).sum(axis=0)
    deviation = np.sqrt(squares / len(x))
    varying = deviation[deviation > 0]
    usual = float(np.median(varying)) if len(varying) else 1.0
    # What never changes becomes 0 by this, and so stays without weight.
    return mean, np.where(deviation > _SMALLEST_DEVIATION * usual, deviation, 1)


def _standardised(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Standardises `x` in place, since a copy would be as large as all the rest."""
    x -= mean
    x /= scale
    return x


def _fit(
    x: np.ndarray,
    y: np.ndarray,
    held_out: np.ndarray,
    truths: np.ndarray,
    weights: np.ndarray | None,
) -> LogisticRegression:
    # Each strength starts where the one before, a stronger penalty, has ended.
    fit = LogisticRegression(max_iter=_MOST_ITERATIONS, warm_start=True)
    best, least, worse = fit, np.inf, 0
    # One thread: how BLAS splits its sums must not depend on the machine's load.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for a start
        for strength in _STRENGTHS:
            fit.set_params(C=strength).fit(x, y, sample_weight=weights)
            loss = _log_loss(fit, held_out, truths)
            if loss < least:
                best, least, worse = copy.deepcopy(fit), loss, 0
            else:
                worse += 1
            if worse == _MOST_WORSE:
                break
    return best


def _log_loss(fit: LogisticRegression, x: np.ndarray, truths: np.ndarray) -> float:
    guesses = fit.predict_proba(x)
    hits = truths[:, None] == fit.classes_[None, :]
    return float(
        -np.log(np.maximum((guesses * hits).sum(axis=1), _SMALLEST_PROBABILITY)).mean()
    )


def _as_softmax(fit: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (features, classes) and bias; of two classes scikit-learn keeps one."""
    weights, biases = np.asarray(fit.coef_).T, np.asarray(fit.intercept_)
    if len(fit.classes_) == 2:  # noqa: PLR2004 - the special case itself
        weights = np.concatenate([-weights, weights], axis=1) / 2
        biases = np.concatenate([-biases, biases]) / 2
    return weights, biases


def _for_all_classes(
    weights: np.ndarray, biases: np.ndarray, present: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Classes that the drawn rows lack start out as unlikely as the least likely."""
    kernel = np.zeros((len(weights), classes))
    bias = np.full(classes, biases.min())
    kernel[:, present], bias[present] = weights, biases
    return kernel, bias
