"""How hard a dataset is: two baselines, a cross-validated probe, what gets confused.

Only training and validation pictures are asked about: the test split stays untouched
until a finished model meets it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.insight.cross_validation import Probed
from worker.insight.doctor.examination import Likeness
from worker.insight.independence import tell_interval

_MOST_CONFUSIONS = 10
_EXAMPLES = 4
# Shares of what lies between the majority class and certainty that the probe wins.
# They are words, chosen so that photographs of waste (0.85) are moderate, and solar
# cells on whose cracks experts disagree (0.5) are hard.
_GRADES = ((0.9, "easy"), (0.7, "moderate"), (0.4, "hard"))
_HARDEST = "very hard"
_TWO = 2
_BLOCK_ROWS = 512


@dataclass(frozen=True)
class Confusion:
    """Pictures of one class that the probe takes for another.

    Args:
        truth: Class number.
        taken_for: Class number.
        rows: The pictures, the surest mistake first.
        share: Of the pictures of `truth`.
    """

    truth: int
    taken_for: int
    rows: np.ndarray
    share: float


def measure_majority(labels: np.ndarray) -> tuple[float, int]:
    """Returns the share and the number of the most frequent class.

    Shapes:
        labels: (n,) class numbers.
    """
    counts = np.bincount(labels)
    return float(counts.max() / counts.sum()), int(counts.argmax())


def measure_nearest_neighbour(
    likeness: Likeness,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    groups: np.ndarray | None = None,
) -> tuple[float, tuple[float, float]]:
    """Returns how often a picture's nearest neighbour has its class, and the interval.

    Args:
        likeness: The nearest of every image, and how near any two are.
        labels: Class numbers of all images.
        rows: Positions that are asked about, and may answer.
        groups: Of every image; nobody answers for its own group, and so no copy for its
            original.

    Shapes:
        labels, groups: (images,) integers.
        rows: (n,) integers.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    may_answer = np.zeros(len(labels), bool)
    may_answer[rows] = True
    near = likeness.neighbours.rows[rows]
    answering = may_answer[near] & (groups[near] != groups[rows][:, None])
    # Of each row the first that may answer.
    said = labels[near[np.arange(len(rows)), answering.argmax(axis=1)]]
    unanswered = np.flatnonzero(~answering.any(axis=1))
    said[unanswered] = _ask_all(
        likeness.directions, labels, rows, groups, rows[unanswered]
    )
    right = said == labels[rows]
    low, high = tell_interval(right, groups[rows])
    return float(right.mean()), (low, high)


def _ask_all(
    directions: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    groups: np.ndarray,
    asked: np.ndarray,
) -> np.ndarray:
    """Returns the class of the nearest of `rows`; -1 where all are of one group."""
    said = np.full(len(asked), -1)
    for at in range(0, len(asked), _BLOCK_ROWS):
        block = asked[at : at + _BLOCK_ROWS]
        near = directions[block] @ directions[rows].T
        near[groups[rows][None, :] == groups[block][:, None]] = -np.inf
        best = near.argmax(axis=1)
        found = np.isfinite(near[np.arange(len(block)), best])
        said[at : at + len(block)][found] = labels[rows[best[found]]]
    return said


def list_confusions(probed: Probed, labels: np.ndarray) -> list[Confusion]:
    """Returns the pairs of classes that the probe confuses, the most frequent first.

    Args:
        probed: What the probe says.
        labels: Class numbers of all images.
    """
    truths, predicted = labels[probed.rows], probed.predicted
    sure = probed.probabilities.max(axis=1)
    found = []
    for truth in np.unique(truths):
        of_class = truths == truth
        for other in np.unique(predicted[of_class & (predicted != truth)]):
            here = np.flatnonzero(of_class & (predicted == other))
            worst = here[np.argsort(-sure[here], kind="stable")]
            share = len(here) / int(of_class.sum())
            found.append(Confusion(int(truth), int(other), probed.rows[worst], share))
    found.sort(key=lambda one: (-len(one.rows), one.truth, one.taken_for))
    return found[:_MOST_CONFUSIONS]


def describe_difficulty(
    probed: Probed,
    labels: np.ndarray,
    classes: Sequence[str],
    neighbour: tuple[float, tuple[float, float]],
    name_image: Any,
    *,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns the section `difficulty` of forecast.json.

    Args:
        probed: What the probe says of training and validation pictures.
        labels: Class numbers of all images.
        classes: Class names.
        neighbour: As `measure_nearest_neighbour` returns it.
        name_image: Called with a row; returns (sha256, name).
        groups: Of all images; None for each by itself.
    """
    truths = labels[probed.rows]
    right = probed.predicted == truths
    own = None if groups is None else groups[probed.rows]
    accuracy = float(right.mean())
    majority, number = measure_majority(truths)
    confusions = list_confusions(probed, labels)
    recall: dict[str, float] = {
        str(classes[label]): float(right[truths == label].mean())
        for label in np.unique(truths)
    }
    told = {
        "majority": {"accuracy": majority, "label": classes[number]},
        "nearest_neighbour": {"accuracy": neighbour[0], "interval": list(neighbour[1])},
        "probe": {
            "accuracy": accuracy,
            "interval": tell_interval(right, own),
            "recall": recall,
        },
        "confusions": [
            {
                "truth": classes[one.truth],
                "taken_for": classes[one.taken_for],
                "count": len(one.rows),
                "share": one.share,
                "examples": [
                    dict(zip(("sha256", "name"), name_image(int(row)), strict=True))
                    for row in one.rows[:_EXAMPLES]
                ],
            }
            for one in confusions
        ],
        "grade": grade_of(accuracy, majority),
    }
    return told | {"sentence": _explain(told, classes, confusions)}


def describe_torn(share: float, accuracy: float) -> str:
    """Returns a sentence on a test split that shares groups with the others.

    Args:
        share: Of its pictures, 0 to 1.
        accuracy: What promises rest on, 0 to 1.
    """
    return (
        f"That is of new pictures. {share:.0%} of the test pictures have near copies, "
        "or others of their group, among those to train on: trainings will look better "
        f"on the test split than they are, and promises reckon with {accuracy:.0%} "
        "from the probe. Deal the splits anew to test them on new pictures."
    )


def grade_of(accuracy: float, majority: float) -> str:
    """Returns the plain word for how much of the way to certainty the probe comes.

    Args:
        accuracy: Of the probe, 0 to 1.
        majority: What always saying the most frequent class reaches, 0 to 1.
    """
    won = (accuracy - majority) / max(1e-9, 1 - majority)
    return next((word for least, word in _GRADES if won >= least), _HARDEST)


def _explain(
    told: dict[str, Any],
    classes: Sequence[str],
    confusions: Sequence[Confusion],
) -> str:
    probe, majority = told["probe"], told["majority"]
    recall: dict[str, float] = probe["recall"]
    first = (
        f"This is {_article(told['grade'])} dataset: without any training of its own, "
        f"a linear classifier on a pretrained network tells {probe['accuracy']:.0%} of "
        "the pictures right, where always saying the most frequent class would reach "
        f"{majority['accuracy']:.0%}."
    )
    parts = [first]
    if confusions:
        worst = confusions[0]
        parts.append(
            f"Most mistakes take “{classes[worst.truth]}” for "
            f"“{classes[worst.taken_for]}” ({worst.share:.0%} of its pictures)."
        )
    if len(recall) > _TWO:
        weakest = min(recall, key=lambda label: recall[label])
        parts.append(
            f"The hardest class is “{weakest}”: {recall[weakest]:.0%} of its pictures "
            "are recognised."
        )
    return " ".join(parts)


def _article(grade: str) -> str:
    return f"an {grade}" if grade[0] in "aeiou" else f"a {grade}"
