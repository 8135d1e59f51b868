"""Test-time augmentation: one model that also looks at the picture's mirror images."""

from typing import Any

import keras

from shared.training_spec import Augmentation

# Axes of (batch, height, width, channels).
_ROWS, _COLUMNS = 1, 2


def list_mirrors(augmentation: Augmentation) -> list[tuple[int, ...]]:
    """Returns the axes to turn for each view, the plain picture first.

    Only those mirror images that training itself has shown: of a picture whose
    mirrored copy means something else, nothing is to be learned.
    """
    views: list[tuple[int, ...]] = [()]
    if augmentation.horizontal_flip:
        views += [(*view, _COLUMNS) for view in views]
    if augmentation.vertical_flip:
        views += [(*view, _ROWS) for view in views]
    return views


def average_over_mirrors(model: keras.Model, augmentation: Augmentation) -> keras.Model:
    """Returns a model whose answer is the mean of `model`'s over all mirror images.

    Args:
        model: From pixels to probabilities; its variables are shared.
        augmentation: Says which mirror images training has shown.

    Shapes:
        input: (batch, side, side, 3) float32.
        output: (batch, classes) float32 probabilities.
    """
    views = list_mirrors(augmentation)
    if len(views) == 1:
        return model  # measured, and no mirror image does
    image = keras.Input(model.input_shape[1:], dtype="float32", name="picture")
    answers: list[Any] = [
        model(keras.ops.flip(image, axis=list(view)) if view else image)
        for view in views
    ]
    mean = keras.layers.Average(name="mean_over_mirrors")(answers)
    return keras.Model(image, mean, name="mirrored_classifier")
