"""What is said of pictures that show the same: across splits, across labels, or not."""

import numpy as np

from worker.insight.doctor.duplicates import Duplicates
from worker.insight.doctor.finding import Finding, build_finding
from worker.insight.doctor.pictures import SPLITS, Pictures
from worker.insight.doctor.words import SPLIT_WORDS, join_words, name_some

# How much a shared picture bends what is measured: a test that knows its answers is the
# worst, a validation split that does only chooses badly.
_HARM = {("train", "test"): 1.0, ("train", "val"): 0.8, ("val", "test"): 0.5}
_CERTAINTY = 0.1  # what the likeness adds to the score


def tell_copies(
    pictures: Pictures, duplicates: Duplicates, likely: np.ndarray
) -> list[Finding]:
    """Returns what there is to say of every cluster.

    One in several splits is a leak, one under several labels a conflict, and it may be
    both; every other is one of near duplicates.

    Args:
        pictures: All there are.
        duplicates: The clusters.
        likely: How likely each class is for each picture.
    """
    findings = []
    for found, likeness in duplicates.list_clusters():
        rows = found.tolist()
        said = []
        if len(set(pictures.labels[found].tolist())) > 1:
            said.append(_tell_conflict(pictures, rows, likeness, likely))
        if len(set(pictures.split_names[found].tolist()) - {""}) > 1:
            said.append(_tell_leak(pictures, rows, likeness))
        findings += said or [_tell_near(pictures, rows, likeness)]
    return findings


def describe_harm(there: set[str]) -> str:
    """Says what is spoilt by a picture, or a group, that is in all of these splits.

    Args:
        there: At least two of `train`, `val` and `test`.
    """
    if "train" not in there:
        return (
            "validation chooses the model by what the test asks again, so the test "
            "flatters it a little"
        )
    words = [SPLIT_WORDS[name] for name in SPLITS if name in there - {"train"}]
    verb = "measures" if len(words) == 1 else "measure"
    return f"what {join_words(words)} {verb} is known by heart"


def _tell_conflict(
    pictures: Pictures, rows: list[int], likeness: float, likely: np.ndarray
) -> Finding:
    best = pictures.classes[int(likely[rows].sum(axis=0).argmax())]
    labels = sorted({pictures.label(row) for row in rows})
    # One of each label goes first, so that the sentence names them.
    first = [next(r for r in rows if pictures.label(r) == label) for label in labels]
    rows = first + [row for row in rows if row not in set(first)]
    shown = [f"{pictures.names[row]} (“{pictures.label(row)}”)" for row in rows]
    suggested = best if best in labels else None
    hint = f" It looks like “{best}”." if suggested else ""
    return build_finding(
        pictures,
        "label_conflict",
        rows,
        score=likeness,
        sentence=f"{name_some(shown)} show nearly the same under different labels."
        f"{hint}",
        action="relabel" if suggested else "quarantine",
        suggested_label=suggested,
        group=min(rows),
    )


def _tell_leak(pictures: Pictures, rows: list[int], likeness: float) -> Finding:
    there = set(pictures.split_names[rows].tolist())
    harm = max(
        (weight for pair, weight in _HARM.items() if there >= set(pair)), default=0.5
    )
    # One of each split goes first, so that the sentence names them; and of the test
    # split before all: it is the one that stays, since no copy of it may be trained on.
    rows = pictures.put_first(rows, SPLITS[::-1])
    splits = pictures.split_names
    shown = [
        f"{pictures.names[row]} in {SPLIT_WORDS.get(str(splits[row]), 'no split')}"
        for row in rows
    ]
    return build_finding(
        pictures,
        "split_leak",
        rows,
        score=harm * (1 - _CERTAINTY + _CERTAINTY * likeness),
        sentence=f"{name_some(shown)} show the same: {describe_harm(there)}. Keep "
        f"{pictures.names[rows[0]]} alone, or all of them in one split.",
        action="split",
        group=min(rows),
    )


def _tell_near(pictures: Pictures, rows: list[int], likeness: float) -> Finding:
    names = [pictures.names[row] for row in rows]
    split = SPLIT_WORDS.get(str(pictures.split_names[rows[0]]), "no split")
    return build_finding(
        pictures,
        "near_duplicate",
        rows,
        score=likeness,
        sentence=f"{name_some(names)} show the same, in {split}: keep {names[0]} "
        "alone, or all of them in one split.",
        action="exclude",
        group=min(rows),
    )
