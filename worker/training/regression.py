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

# The regression keeps its rows in memory in float64: 25,000 at 1,280 features. As much
# again goes to the held-out rows and to what it computes.
_MOST_BYTES = 256 << 20
_MOST_ITERATIONS = 200
# Inverse strengths of the penalty on weights of standardised features, from far too
# strong to far too weak for some thousand rows; validation decides.
_STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
_MOST_WORSE = 2  # strengths in a row that were no better: those beyond are not tried
_SMALLEST_DEVIATION = 1e-3  # a feature that never changes stays without weight


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

    Shapes:
        views: one (rows, features) float32 each.
        labels: (rows,) integers.
    """
    features = views[0]
    most_rows = _MOST_BYTES // (8 * features.shape[1])
    if len(train) * len(views) > most_rows:
        random = np.random.default_rng(seed)
        train = _draw(train, labels, most_rows // len(views), random)
    held_out = held_out[:most_rows]
    x = np.concatenate([np.asarray(view[train], np.float64) for view in views])
    y = np.tile(labels[train], len(views))
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    # What never changes becomes 0 here, and so stays without weight.
    scale = np.where(deviation > _SMALLEST_DEVIATION, deviation, 1)
    best = _fit(
        _standardised(x, mean, scale),
        y,
        _standardised(np.array(features[held_out], np.float64), mean, scale),
        labels[held_out],
        None if class_weights is None else class_weights[y],
    )
    weights, biases = _as_softmax(best)
    kernel, bias = _for_all_classes(weights, biases, best.classes_, classes)
    return Regression(mean, scale, kernel, bias)


def _standardised(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Standardises `x` in place, since a copy would be as large as all the rest."""
    x -= mean
    x /= scale
    return x


def _draw(
    rows: np.ndarray, labels: np.ndarray, most: int, random: np.random.Generator
) -> np.ndarray:
    """Returns about `most` of `rows`, of every class its share and one at least."""
    share = min(1.0, most / len(rows))
    drawn = [
        random.choice(of_class, max(1, round(share * len(of_class))), replace=False)
        for number in np.unique(labels[rows])
        for of_class in [rows[labels[rows] == number]]
    ]
    return np.sort(np.concatenate(drawn))


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
