"""The values of a model's variables, as checkpoints hold them; needs no framework."""

from typing import NamedTuple

import numpy as np


class NamedArray(NamedTuple):
    """The value of one variable, under the path Keras gives it."""

    path: str
    value: np.ndarray


Arrays = dict[str, list[NamedArray]]
