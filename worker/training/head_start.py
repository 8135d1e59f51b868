"""Starts a head without hidden layers at the logistic regression on its features."""

from collections.abc import Sequence

import keras
import numpy as np

from worker.training.build_model import PROBABILITIES_LAYER, STANDARDIZE_LAYER
from worker.training.regression import fit_regression


def start_at_regression(
    head: keras.Model,
    views: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    train: np.ndarray,
    held_out: np.ndarray,
    seed: int,
    class_weights: np.ndarray | None = None,
) -> None:
    """Gives the softmax layer of `head` the weights of the regression.

    Args:
        head: Ends in a softmax on the features themselves.
        views: As in `fit_regression`, like the rest.
        labels: Class numbers.
        train: Rows to fit.
        held_out: Rows that choose the penalty.
        seed: The run's seed.
        class_weights: What a picture of each class counts. Defaults to 1.

    Shapes:
        views: one (rows, feature_size) float32 each.
        labels: (rows,) integers.
    """
    layer = head.get_layer(PROBABILITIES_LAYER)
    found = fit_regression(
        views,
        labels,
        train=train,
        held_out=held_out,
        classes=layer.units,
        seed=seed,
        class_weights=class_weights,
    )
    layer.set_weights([found.kernel.astype(np.float32), found.bias.astype(np.float32)])
    standardize = head.get_layer(STANDARDIZE_LAYER)
    variance = found.scale**2
    standardize.set_weights(
        [found.mean.astype(np.float32), variance.astype(np.float32)]
    )
