"""How far two pictures are one: laid over each other, moved and scaled a little.

A hash and a network's features say what looks alike; whether it is the same scene, the
pixels say. Two passes:

1. The middle of one picture, as it is and a little smaller, is looked for in the other,
   both of them small: where they lie best, their details must agree.
2. There the finest details are compared, each brought to the contrast of its
   surroundings: else two solar cells behind one grid would be copies, and so would any
   two objects on one table. Light and contrast cancel out.

How far different pictures of a dataset agree in that is asked of pairs drawn from it,
and copies must agree by more.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from worker.insight.probe import Report, report_nothing

# Of planted copies, resized, encoded anew, brightened or cropped by 3 % of each side,
# nine in ten reach 0.7 among photographs and 0.96 among solar cells; drawn pairs 0.1
# and 0.76. What lies between is the same object that was turned, or another one.
# Where drawn pairs agree in nearly everything, a part of what is left must do.
_ABOVE_DRAWN, _OF_THE_REST = 0.16, 0.65
_LEAST, _MOST = 0.62, 0.99
_DRAWN_SHARE = 95  # percentile of the drawn pairs
_DRAWN_PAIRS = 200
_LEAST_ROUGH = 0.7
_SMALL_PX, _SMALL_MIDDLE_PX, _ROUGH_PX = 64, 48, 2.0
# Sides of a picture that is laid over one cropped by up to 5 % of each side.
_SMALL_SIDES_PX = (64, 62, 60, 58)
_LARGE_PX, _MIDDLE_PX, _REACH_PX = 160, 112, 5
_FINE_PX, _FINE_CONTRAST = 1.5, 4.0
_FINE_STEP = 0.012  # of the side
_PAIRS_AT_ONCE = 128


@dataclass(frozen=True)
class _Place:
    """Where one picture lies in the other: its size there, and the middle's centre."""

    is_swapped: bool
    scale: float
    x: float
    y: float
    rough: float


def compare_pairs(
    pixels: Any,
    pairs: np.ndarray,
    *,
    threads: int = 1,
    report: Report = report_nothing,
) -> np.ndarray:
    """Returns how far the pictures of each pair are one: 0 where they are not.

    Args:
        pixels: The pack's.
        pairs: Rows.
        threads: How many pairs are compared at a time.
        report: Called with the pairs compared, and all.

    Shapes:
        pixels: (n, size, size, 3) uint8.
        pairs: (pairs, 2) integers.
        returns: (pairs,) float32, 0 to 1.
    """
    if not len(pairs):
        return np.zeros(0, np.float32)
    least = _find_least(pixels, threads)
    found = _measure(pixels, pairs, threads, _LEAST_ROUGH, report)
    return np.where(found >= least, found, 0).astype(np.float32)


def measure_likeness(
    first: np.ndarray, second: np.ndarray, least_rough: float = _LEAST_ROUGH
) -> float:
    """Returns how far the finest details of two pictures are one, 0 to 1.

    Args:
        first: A grey picture, `_LARGE_PX` square.
        second: Another one.
        least_rough: 0 is returned when they agree less at first sight.

    Shapes:
        first, second: (160, 160) float32.
    """
    place = _find_place(_resize(first, _SMALL_PX), _resize(second, _SMALL_PX))
    if place.rough < least_rough:
        return 0.0
    small, large = (second, first) if place.is_swapped else (first, second)
    sharp = _take_fine(large)
    x, y = (_clip(round(at * _LARGE_PX - _MIDDLE_PX / 2)) for at in (place.x, place.y))
    low = max(0, y - _REACH_PX), max(0, x - _REACH_PX)
    reach = _MIDDLE_PX + _REACH_PX
    here = sharp[low[0] : y + reach, low[1] : x + reach]
    is_whole = place.scale == 1
    steps = (0.0,) if is_whole else (-_FINE_STEP, 0.0, _FINE_STEP)
    best = 0.0
    for step in steps:
        side = round(_LARGE_PX * (place.scale + step))
        middle = _cut_middle(_take_fine(_resize(small, side)), _MIDDLE_PX)
        best = max(best, _correlate(middle, here)[0])
    return min(1.0, best)


def _find_least(pixels: Any, threads: int) -> float:
    """Returns what copies must reach in this dataset."""
    count = len(pixels)
    draw = np.random.default_rng(0)
    drawn = draw.integers(0, count, (_DRAWN_PAIRS, 2))
    drawn = drawn[drawn[:, 0] != drawn[:, 1]]
    # Of few pictures some drawn pairs would be the copies that are looked for.
    if count < _DRAWN_PAIRS or not len(drawn):
        return _LEAST
    usual = np.percentile(_measure(pixels, drawn, threads, -1.0), _DRAWN_SHARE)
    above = min(_ABOVE_DRAWN, _OF_THE_REST * (1 - usual))
    return float(np.clip(usual + above, _LEAST, _MOST))


def _measure(
    pixels: Any,
    pairs: np.ndarray,
    threads: int,
    least_rough: float,
    report: Report = report_nothing,
) -> np.ndarray:
    found = np.zeros(len(pairs), np.float32)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            block = pairs[start : start + _PAIRS_AT_ONCE]
            rows, places = np.unique(block, return_inverse=True)
            greys = list(map(_shrink, np.asarray(pixels[rows])))
            likeness = pool.map(
                lambda pair, greys=greys: measure_likeness(
                    greys[pair[0]], greys[pair[1]], least_rough
                ),
                places.reshape(-1, 2),
            )
            found[start : start + len(block)] = list(likeness)
            report(start + len(block), len(pairs))
    return found


def _shrink(picture: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return _resize(grey, _LARGE_PX)


def _find_place(first: np.ndarray, second: np.ndarray) -> _Place:
    """Returns where the small pictures lie best over each other."""
    rough = [_take_rough(first), _take_rough(second)]
    best = _Place(is_swapped=False, scale=1.0, x=0.5, y=0.5, rough=-1.0)
    for side in _SMALL_SIDES_PX:
        for is_swapped in (False, True):
            if is_swapped and side == _SMALL_PX:
                continue  # the same as before
            small = _resize(second if is_swapped else first, side)
            middle = _cut_middle(_take_rough(small), _SMALL_MIDDLE_PX)
            value, x, y = _correlate(middle, rough[not is_swapped])
            if value > best.rough:
                centre = _SMALL_MIDDLE_PX / 2
                best = _Place(
                    is_swapped,
                    side / _SMALL_PX,
                    (x + centre) / _SMALL_PX,
                    (y + centre) / _SMALL_PX,
                    value,
                )
    return best


def _take_rough(grey: np.ndarray) -> np.ndarray:
    return grey - cv2.GaussianBlur(grey, (0, 0), _ROUGH_PX)


def _take_fine(grey: np.ndarray) -> np.ndarray:
    detail = grey - cv2.GaussianBlur(grey, (0, 0), _FINE_PX)
    power = cv2.GaussianBlur(detail * detail, (0, 0), 2 * _FINE_PX)
    return detail / (np.sqrt(power) + _FINE_CONTRAST)


def _resize(grey: np.ndarray, side: int) -> np.ndarray:
    if grey.shape == (side, side):
        return grey
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)


def _cut_middle(grey: np.ndarray, side: int) -> np.ndarray:
    edge = (len(grey) - side) // 2
    return np.ascontiguousarray(grey[edge : edge + side, edge : edge + side])


def _clip(at: int) -> int:
    return min(max(at, 0), _LARGE_PX - _MIDDLE_PX)


def _correlate(middle: np.ndarray, large: np.ndarray) -> tuple[float, int, int]:
    """Returns the best correlation and where it is; 0 for what is plain."""
    if middle.std() < 1e-3:  # noqa: PLR2004 - one plain colour is like everything
        return 0.0, 0, 0
    found = cv2.matchTemplate(np.ascontiguousarray(large), middle, cv2.TM_CCOEFF_NORMED)
    found = np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
    _, value, _, (x, y) = cv2.minMaxLoc(found)
    return float(value), int(x), int(y)
