"""What can be told of each picture by itself: its hash, light and sharpness."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from worker.ingest.picture_hash import hash_picture
from worker.insight.probe import Report, report_nothing

_BLOCK_ROWS = 256
_DARK_SHARE, _BRIGHT_SHARE = 0.01, 0.99  # of a picture's pixels
_CROPPED = 0.03  # of each side
_SMALLEST_VARIANCE = 1.0  # of luminance: less is one plain colour


@dataclass(frozen=True)
class Appearance:
    """Facts about the pixels of every picture, by row.

    Args:
        hashes: Perceptual hashes of the whole, and of the middle: a cropped copy's
            whole is like its original's middle.
        light: Mean luminance, 0 to 255.
        darkest: Luminance that 1 % of the pixels do not reach.
        brightest: Luminance that 1 % of the pixels exceed.
        sharpness: Logarithm of the variance of the Laplacian over that of the
            luminance: contrast and light cancel out.

    Shapes:
        hashes: (2, n) uint64.
        light, darkest, brightest, sharpness: (n,) float32.
    """

    hashes: np.ndarray
    light: np.ndarray
    darkest: np.ndarray
    brightest: np.ndarray
    sharpness: np.ndarray


def measure_appearance(pixels: Any, *, report: Report = report_nothing) -> Appearance:
    """Looks at every picture once, a block of rows at a time.

    Args:
        pixels: The pack's.
        report: Called with the pictures done, and all.

    Shapes:
        pixels: (n, size, size, 3) uint8; may be mapped.
    """
    hashes = np.empty((2, len(pixels)), np.uint64)
    numbers = np.empty((len(pixels), 4), np.float32)
    for at in range(0, len(pixels), _BLOCK_ROWS):
        block = np.asarray(pixels[at : at + _BLOCK_ROWS])
        greys = np.stack([cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in block])
        edge = round(_CROPPED * greys.shape[1])
        middle = slice(edge, greys.shape[1] - edge)
        for row, grey in enumerate(greys, start=at):
            parts = grey, grey[middle, middle]
            hashes[:, row] = [hash_picture(Image.fromarray(part)) for part in parts]
            numbers[row] = _measure(grey)
        report(at + len(block), len(pixels))
    return Appearance(hashes, *numbers.T)


def _measure(grey: np.ndarray) -> tuple[float, float, float, float]:
    # Counting grey levels is ten times as fast as sorting pixels.
    shares = np.cumsum(np.bincount(grey.ravel(), minlength=256)) / grey.size
    darkest, brightest = np.searchsorted(shares, [_DARK_SHARE, _BRIGHT_SHARE])
    edges = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    contrast = max(float(grey.var()), _SMALLEST_VARIANCE)
    return grey.mean(), darkest, brightest, float(np.log((edges + 1e-3) / contrast))
