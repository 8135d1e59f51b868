"""Which accuracy a preset will reach: from a probe of its features and from experience.

A probe of the very features that a preset starts from comes near what the training
reaches; by how much trainings go beyond it, the finished ones tell. Everything is
reckoned in log-odds, in which gains of easy and of hard datasets are alike:

    log-odds(delivered) = log-odds(probe) + gain of the preset + chance

The gain is the mean over datasets of what trainings of the preset gained on them, drawn
to a first guess that counts as two datasets. A dataset counts by how reliable its gain
is, the share of the variance that is not the chance of its splits (the shrinkage factor
of a random-effects mean): what twenty test pictures say moves nobody else's range.

The range has three sources: the probe saw so many pictures and no more, gains differ
between datasets, and the test split is a draw too.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.training.intervals import Z_92

# First guesses, log-odds, and what they may be off by: ours, and rough. A preset that
# stops at the frozen features gains nothing on a probe of them; those that go on to
# fine-tune them gain something.
FIRST_GUESSES = {"fast": (0.0, 0.15), "balanced": (0.25, 0.2), "best": (0.3, 0.2)}
_OTHER_GUESS = (0.15, 0.3)
_GUESS_COUNTS = 2.0
# However well experience agrees, trainings differ in their seeds by so much (log-odds;
# half a point at 90 %).
_LEAST_SPREAD = 0.05
# What the dataset itself has shown says more than what others have.
_SAME_DATASET_COUNTS = 3.0
_EDGE = 0.5  # pictures that are counted for and against, so that no share is 0 or 1
# As many more as keep the variance of a share near 0 or 1 what its interval is (Agresti
# and Coull, "Approximate is better than exact", The American Statistician 52, 1998).
_EDGE_OF_VARIANCE = 2.0
_FARTHEST = 6.0  # log-odds


@dataclass(frozen=True)
class Experience:
    """One finished training of the preset.

    Args:
        probe: What the probe of its features had said, 0 to 1.
        probe_images: Independent pictures that the probe was judged on.
        delivered: Accuracy on the test split, 0 to 1.
        test_images: Independent pictures of the test split.
        dataset: Tells datasets apart: ten trainings on one say little more than one,
            since they share its probe and its test split. None counts as one by itself.
        same_dataset: Whether it was trained on the dataset that is forecast.
    """

    probe: float
    probe_images: float
    delivered: float
    test_images: float
    dataset: int | str | None = None
    same_dataset: bool = False


@dataclass(frozen=True)
class Expected:
    """What to expect of one training.

    Args:
        low: Lower end of the range that is to hold 92 trainings of 100, 0 to 1.
        middle: The most likely accuracy.
        high: Upper end.
        trainings: How many finished trainings it rests on.
        datasets: On how many datasets they were.
    """

    low: float
    middle: float
    high: float
    trainings: int
    datasets: int


def foresee(
    preset: str,
    probe: float,
    *,
    probe_images: float,
    test_images: float,
    finished: Sequence[Experience],
) -> Expected:
    """Returns the range in which the accuracy on the test split will be.

    Args:
        preset: Its name.
        probe: Accuracy of the probe, 0 to 1.
        probe_images: Independent pictures that it was judged on.
        test_images: Independent pictures of the test split.
        finished: Trainings of this preset.
    """
    gain, spread = _learn(preset, finished)
    middle = max(-_FARTHEST, min(_FARTHEST, _log_odds(probe, probe_images) + gain))
    share = _share(middle)
    noise = _variance(probe, probe_images) + spread**2 + _variance(share, test_images)
    reach = Z_92 * math.sqrt(noise)
    low, high = _share(middle - reach), _share(middle + reach)
    # Log-odds never reach 0 or 1, and so many pictures have no share in between.
    return Expected(
        0.0 if low * test_images <= _EDGE else low,
        share,
        1.0 if (1 - high) * test_images <= _EDGE else high,
        len(finished),
        len(set(_name_datasets(finished))),
    )


def _learn(preset: str, finished: Sequence[Experience]) -> tuple[float, float]:
    """Returns the gain to expect, log-odds, and the standard deviation of one more."""
    guess, doubt = FIRST_GUESSES.get(preset, _OTHER_GUESS)
    gains = np.array(
        [
            _log_odds(one.delivered, one.test_images)
            - _log_odds(one.probe, one.probe_images)
            for one in finished
        ]
    )
    chances = np.array(
        [
            _variance(one.probe, one.probe_images)
            + _variance(one.delivered, one.test_images)
            for one in finished
        ]
    )
    if not len(gains):
        return guess, doubt
    names = _name_datasets(finished)
    trainings = Counter(names)
    counts = np.array(
        [
            (_SAME_DATASET_COUNTS if one.same_dataset else 1.0) / trainings[name]
            for one, name in zip(finished, names, strict=True)
        ]
    )
    reliable = doubt**2 / (doubt**2 + chances)
    total = _GUESS_COUNTS + counts @ reliable
    gain = float((_GUESS_COUNTS * guess + (counts * reliable) @ gains) / total)
    # What single trainings were off by holds the chance of their splits, which is
    # reckoned for the new one by itself. A square varies as its variance squared.
    weights = counts * reliable**2
    squares = (gains - gain) ** 2 - chances
    around = _GUESS_COUNTS * (doubt**2 + (guess - gain) ** 2) + weights @ squares
    around /= _GUESS_COUNTS + weights.sum()
    spread = math.sqrt(max(_LEAST_SPREAD**2, float(around)))
    return gain, spread * math.sqrt(1 + 1 / total)


def _name_datasets(finished: Sequence[Experience]) -> list[object]:
    return [
        (at,) if one.dataset is None else one.dataset for at, one in enumerate(finished)
    ]


def _log_odds(share: float, images: float) -> float:
    hits = share * images
    return math.log((hits + _EDGE) / (images - hits + _EDGE))


def _variance(share: float, images: float) -> float:
    """Of the log-odds of a share that so many pictures gave."""
    hits = share * images
    edge = _EDGE_OF_VARIANCE
    return 1 / (hits + edge) + 1 / (images - hits + edge)


def _share(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))
