"""Pictures that are unlike the others: outliers, too small, dark, bright or blurred.

What is usual is the dataset's own: medians and deviations from them, which a few odd
pictures do not move. Whatever is usual in a dataset is not told as odd.
"""

import numpy as np

from worker.insight.doctor.appearance import Appearance
from worker.insight.doctor.finding import NO_GROUP, Finding, build_finding
from worker.insight.doctor.neighbours import Neighbours
from worker.insight.doctor.pictures import Pictures
from worker.insight.doctor.words import Kind

_NEAREST = 10
# Deviations from the usual, each 1.48 times the median one: a normal distribution has
# 1 in 30,000 beyond the first, and 1 in 4,000 beyond the second.
_FAR, _BLURRED = 4.0, 3.5
_MOST_OUTLIERS = 0.01  # of a class; one at least
_FEWEST_USUAL = 10  # pictures, to know what is usual
_SMALL_SHARE = 0.5  # of the side that training reads, which enlarges what is smaller
_DARK, _DARK_LIGHT, _DARKER = 60, 25, 50  # luminance, of 255
_BRIGHT, _BRIGHT_LIGHT, _BRIGHTER = 235, 240, 225
_UNUSUAL = 0.5  # of the usual light, or of what lacks to white
_MAD = 1.4826
_LEAST_SPREAD = 1e-3


def find_outliers(
    pictures: Pictures, neighbours: Neighbours, left_out: np.ndarray
) -> list[Finding]:
    """Returns pictures that no other resembles, for their class; few, worst first.

    Args:
        pictures: All there are.
        neighbours: The nearest of each.
        left_out: Rows about which something better is said already.
    """
    if not neighbours.rows.size:
        return []  # a single picture
    distance = 1 - neighbours.similarities[:, :_NEAREST].mean(axis=1)
    far = np.zeros(len(pictures))
    for number in range(len(pictures.classes)):
        rows = np.flatnonzero(pictures.labels == number)
        if len(rows) < _FEWEST_USUAL:
            continue
        far[rows] = _deviations(distance[rows])
        most = max(1, int(_MOST_OUTLIERS * len(rows)))
        far[rows[np.argsort(-far[rows], kind="stable")[most:]]] = 0
    far[left_out] = 0
    return [
        build_finding(
            pictures,
            "outlier",
            [row],
            score=1 - _FAR / (2 * far[row]),
            sentence=f"{pictures.names[row]} is unlike all other pictures of "
            f"“{pictures.label(row)}” and of the dataset: see whether it belongs here.",
            action="quarantine",
        )
        for row in np.flatnonzero(far > _FAR).tolist()
    ]


def find_small(pictures: Pictures) -> list[Finding]:
    """Returns pictures that training enlarges to more than twice their size."""
    needed = pictures.pixels.shape[1]
    sides = np.minimum(pictures.widths_px, pictures.heights_px)
    if not len(sides) or np.median(sides) < _SMALL_SHARE * needed:
        return []  # they are all small: that is what the dataset is
    return [
        build_finding(
            pictures,
            "too_small",
            [row],
            score=1 - sides[row] / needed,
            sentence=f"{pictures.names[row]} has only {pictures.widths_px[row]} x "
            f"{pictures.heights_px[row]} pixels, and training enlarges it to {needed} "
            f"x {needed}: find a larger one.",
            action="quarantine",
        )
        for row in np.flatnonzero(sides < _SMALL_SHARE * needed).tolist()
    ]


def find_badly_lit(pictures: Pictures, seen: Appearance) -> list[Finding]:
    """Returns pictures that are nearly black or nearly white, where that is unusual."""
    far, usual = _deviations(seen.light), float(np.median(seen.light))
    dark = (seen.light < _DARK_LIGHT) | ((far < -_FAR) & (seen.light < _DARKER))
    bright = (seen.light > _BRIGHT_LIGHT) | ((far > _FAR) & (seen.light > _BRIGHTER))
    return [
        *_tell_light(
            pictures,
            "too_dark",
            dark & (seen.brightest < _DARK) & (seen.light < _UNUSUAL * usual),
            1 - seen.light / 255,
            "nearly black",
        ),
        *_tell_light(
            pictures,
            "too_bright",
            bright
            & (seen.darkest > _BRIGHT)
            & (255 - seen.light < _UNUSUAL * (255 - usual)),
            seen.light / 255,
            "nearly white",
        ),
    ]


def find_blurred(pictures: Pictures, seen: Appearance) -> list[Finding]:
    """Returns pictures that are far less sharp than is usual in the dataset."""
    far = -_deviations(seen.sharpness)
    plain = seen.brightest - seen.darkest < 2  # noqa: PLR2004 - grey levels: no picture
    return [
        build_finding(
            pictures,
            "blurred",
            [row],
            score=1 - _BLURRED / (2 * far[row]),
            sentence=f"{pictures.names[row]} is blurred: its edges are far softer than "
            "is usual in this dataset.",
            action="quarantine",
            group=NO_GROUP,
        )
        for row in np.flatnonzero((far > _BLURRED) & ~plain).tolist()
    ]


def _tell_light(
    pictures: Pictures,
    kind: Kind,
    found: np.ndarray,
    scores: np.ndarray,
    words: str,
) -> list[Finding]:
    return [
        build_finding(
            pictures,
            kind,
            [row],
            score=scores[row],
            sentence=f"{pictures.names[row]} is {words}: there is hardly anything to "
            "see in it.",
            action="quarantine",
        )
        for row in np.flatnonzero(found).tolist()
    ]


def _deviations(values: np.ndarray) -> np.ndarray:
    """How many usual deviations each value lies from the usual one."""
    if len(values) < _FEWEST_USUAL:
        return np.zeros(len(values))
    apart = values - np.median(values)
    spread = max(_MAD * float(np.median(np.abs(apart))), _LEAST_SPREAD)
    return apart / spread
