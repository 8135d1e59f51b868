"""What is wrong with the classes and splits as a whole: imbalance, shared groups."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from worker.ingest.folder_groups import name_folders
from worker.insight.doctor.copies import describe_harm
from worker.insight.doctor.finding import Finding, build_finding, make_key
from worker.insight.doctor.pictures import SPLITS, Pictures
from worker.insight.doctor.words import SPLIT_WORDS, join_words

# A class with fewer than this share of the largest one's pictures is told.
_FEW = 0.2
# Of a class, or of all pictures: a folder that holds more is no group.
_TOO_COMMON = 0.5
# Of a class: a value of a column that holds more is only another name for it. Somebody
# has named the column, and most of a rare class may well be of one patient.
_NEARLY_WHOLE = 0.9
_NEARLY_ALONE = 0.9  # share of a folder's pictures that are of one class
_FEWEST_IN_GROUP = 2
_EXAMPLES = 4  # pictures of a small class


def find_imbalance(pictures: Pictures) -> list[Finding]:
    """Returns one finding for each class that is far smaller than the largest.

    Its key changes with each halving of the class's share: who has accepted a fifth has
    not accepted a fiftieth.
    """
    counts = np.bincount(pictures.labels, minlength=len(pictures.classes))
    if len(counts) < 2:  # noqa: PLR2004 - nothing to be smaller than
        return []
    largest = int(counts.argmax())
    most = int(counts[largest])
    return [
        build_finding(
            pictures,
            "imbalance",
            np.flatnonzero(pictures.labels == number)[:_EXAMPLES].tolist(),
            score=1 - count / most,
            sentence=f"“{pictures.classes[number]}” has {count:,} pictures "
            f"and “{pictures.classes[largest]}” {most:,}: the small class will be told "
            "worse. Add pictures of it, or train with class weights.",
            action="none",
            key=make_key(
                "imbalance",
                [pictures.classes[number]],
                [f"{int(np.log2(most / max(1, count)))} halvings"],
            ),
        )
        for number, count in enumerate(counts.tolist())
        if count < _FEW * most
    ]


def find_shared_groups(
    pictures: Pictures,
    *,
    is_by_folder: bool = False,
    class_folders: Collection[str] = (),
) -> list[Finding]:
    """Returns the groups whose pictures lie in several splits.

    Groups are those that the splits were dealt by, the values of a column of the label
    table, and the folders above or below the classes: a patient, a film, a place.
    Splits that keep the one whole may tear the other, as those that keep copies
    together do.

    Args:
        pictures: All there are.
        is_by_folder: Whether the dataset's groups are its folders.
        class_folders: What folders of classes are called, beside the classes' names:
            the version's `split` tells.
    """
    kinds: dict[str, Sequence[str | None]] = {"group": pictures.groups or []}
    if pictures.column:
        kinds[pictures.column] = _leave_common(
            pictures, pictures.values, most=_NEARLY_WHOLE
        )
    if not is_by_folder:
        labels = {pictures.label(row) for row in range(len(pictures))}
        folders = name_folders(pictures.names, labels | set(class_folders))
        kinds["folder"] = _leave_common(pictures, folders, most=_TOO_COMMON)
    torn: dict[tuple[int, ...], tuple[str, str]] = {}
    for word, groups in kinds.items():
        for group, rows in _gather(pictures, groups):
            torn.setdefault(rows, (word, group))
    return [
        _tell_group(pictures, word, group, rows) for rows, (word, group) in torn.items()
    ]


def _gather(
    pictures: Pictures, groups: Sequence[str | None]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields the groups that lie in several splits, and their rows."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        if group and pictures.split_names[row]:
            rows_of[group].append(row)
    for group, rows in sorted(rows_of.items()):
        if len(set(pictures.split_names[rows])) > 1:
            yield group, tuple(rows)


def _leave_common(
    pictures: Pictures, groups: Sequence[str | None], *, most: float
) -> list[str | None]:
    """Returns each picture's group, as ingest deals by them.

    None where there is none to tell: one with more than `most` of a class and little
    else is only another name for it, and one with most of all pictures says nothing.
    """
    labels = [pictures.label(row) for row in range(len(pictures))]
    held: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        if group:
            held[group][label] += 1
    sizes = Counter(labels)
    kept = {
        group
        for group, counts in held.items()
        if _FEWEST_IN_GROUP <= counts.total() <= _TOO_COMMON * len(labels)
        and not _stands_for_class(counts, sizes, most)
    }
    return [group if group in kept else None for group in groups]


def _stands_for_class(counts: Counter[str], sizes: Counter[str], most: float) -> bool:
    label, count = counts.most_common(1)[0]
    return (
        count > most * sizes[label]
        and count > _NEARLY_ALONE * counts.total()
        and len(sizes) > 1
    )


def _tell_group(
    pictures: Pictures, word: str, group: str, rows: Sequence[int]
) -> Finding:
    found = pictures.split_names[list(rows)]
    counts = {name: int((found == name).sum()) for name in SPLITS}
    there = [
        f"{count:,} in {SPLIT_WORDS[name]}" for name, count in counts.items() if count
    ]
    return build_finding(
        pictures,
        "group_leak",
        pictures.put_first(rows, SPLITS),
        score=1 - max(counts.values()) / len(rows),
        sentence=f"The {word} “{group}” is spread over several splits ("
        f"{join_words(there)}): {describe_harm(set(found.tolist()))}. Deal the splits "
        f"by {word}.",
        action="split",
    )
