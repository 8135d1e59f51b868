"""Blends the pictures of a training batch in pairs, and their labels with them.

Mixup adds two pictures weighted (Zhang et al., arXiv:1710.09412); CutMix puts a
rectangle of one into the other (Yun et al., arXiv:1905.04899). Both are drawn from
Beta(alpha, alpha), once a batch, and pair each picture with its mirror place in the
batch; with both on, an even draw decides which.
"""

import math

import cv2
import numpy as np


def mix(
    pictures: np.ndarray,
    labels: np.ndarray,
    *,
    mixup: float,
    cutmix: float,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mixed batch.

    Args:
        pictures: The changed pictures.
        labels: Their one-hot labels.
        mixup: Alpha of mixup; 0 is off.
        cutmix: Alpha of CutMix; 0 is off.
        random: Draws; in the same state it gives the same batch.

    Shapes:
        pictures: (batch, side, side, 3) uint8, and so is the result's first.
        labels: (batch, classes) float32, rows summing to 1, and so is its second.
    """
    if not (mixup or cutmix):
        return pictures, labels
    cuts = bool(cutmix) and (not mixup or random.random() < 0.5)  # noqa: PLR2004 - even odds
    alpha = cutmix if cuts else mixup
    kept = float(random.beta(alpha, alpha))
    if cuts:
        mixed, kept = _paste(pictures, kept, random)
    else:
        mixed = cv2.addWeighted(
            pictures.reshape(len(pictures), -1),
            kept,
            pictures[::-1].reshape(len(pictures), -1),
            1 - kept,
            0,
        ).reshape(pictures.shape)
    blended = kept * labels + (1 - kept) * labels[::-1]
    return mixed, blended.astype(np.float32)


def _paste(
    pictures: np.ndarray, kept: float, random: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Pastes one rectangle, cut off at the borders; returns the share that is left."""
    height, width = pictures.shape[1:3]
    cut = math.sqrt(1 - kept)
    rows = _span(random.integers(height), cut * height, height)
    columns = _span(random.integers(width), cut * width, width)
    mixed = pictures.copy()
    mixed[:, rows, columns] = pictures[::-1, rows, columns]
    pasted = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - pasted / (height * width)


def _span(centre: int, length: float, side: int) -> slice:
    half = int(length / 2)
    return slice(max(0, int(centre) - half), min(side, int(centre) + half))
