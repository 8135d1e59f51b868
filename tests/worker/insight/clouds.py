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


def make_patients(
    patients: int = 10, *, each: int = 30, apart: float = 2.5, size: int = 16
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns features, labels and groups: two classes, of so many patients each.

    Pictures of one patient hardly differ; patients do, by a deviation.
    """
    random = np.random.default_rng(7)
    groups = np.repeat(np.arange(2 * patients), each)
    labels = groups % 2
    features = random.normal(size=(2 * patients, size))[groups]
    features[:, 0] += apart * labels
    features += random.normal(scale=0.1, size=features.shape)
    order = random.permutation(len(labels))
    return features[order].astype(np.float32), labels[order], groups[order]
