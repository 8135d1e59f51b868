"""Features of made-up pictures: one cloud of points a class."""

import numpy as np


def make_clouds(
    each: int | list[int] = 60, *, classes: int = 3, apart: float = 4.0, size: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n, size) float32 features and labels; clouds are `apart` deviations."""
    random = np.random.default_rng(7)
    counts = [each] * classes if isinstance(each, int) else each
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = np.zeros((len(counts), size))
    centres[np.arange(len(counts)), np.arange(len(counts))] = apart
    features = centres[labels] + random.normal(size=(len(labels), size))
    order = random.permutation(len(labels))
    return features[order].astype(np.float32), labels[order]
