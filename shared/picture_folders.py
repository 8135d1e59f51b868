"""Folders in the names of pictures: what they say beside class and split.

A picture's name tells the folders that it lay in when it came: one of the class, one of
the split, and perhaps one of a patient, a film or a place.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from shared.class_names import clean_label

TRAIN, VAL, TEST = "train", "val", "test"
# What people call them.
SPLIT_ALIASES = {
    "train": TRAIN,
    "training": TRAIN,
    "trainset": TRAIN,
    "train_set": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "dev": VAL,
    "val_set": VAL,
    "test": TEST,
    "testing": TEST,
    "testset": TEST,
    "test_set": TEST,
    "holdout": TEST,
}
FEWEST_GROUPS = 3  # one for each split


def find_own_folders(name: str, classes: Collection[str]) -> tuple[str, ...]:
    """Returns the folders of a picture that name neither a class nor a split.

    Those below its class folder, else those above it, else all there are.

    Args:
        name: The user's name of the picture, folders separated by `/`.
        classes: All of the dataset, not its own alone, and those that it once had: a
            picture that was relabelled lies where it lay.
    """
    folders = PurePosixPath(name).parts[:-1]
    at = [n for n, folder in enumerate(folders) if clean_label(folder) in classes]
    below = folders[at[-1] + 1 :] if at else folders
    above = folders[: at[-1]] if at else ()
    return tuple(
        folder
        for folder in below or above
        if folder.lower() not in SPLIT_ALIASES and clean_label(folder) not in classes
    )


def makes_groups(names: Iterable[str], classes: Collection[str]) -> bool:
    """Whether splits could keep folders whole: there are enough of them for all three.

    Leading folders that all pictures share say where the dataset lay. A picture that
    lies in no further one is a group by itself.

    Args:
        names: The user's names of all pictures.
        classes: As for `find_own_folders`.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    # Pictures are many and their folders few: each folder is looked at once.
    folders = Counter(name[: name.rfind("/") + 1] for name in names)
    for folder, pictures in folders.items():
        counts[find_own_folders(f"{folder}x", classes)] += pictures
    if len(counts) != 2:  # noqa: PLR2004 - one is none; of more, one at most is shared
        return len(counts) >= FEWEST_GROUPS
    shorter, longer = sorted(counts, key=len)
    alone = counts[shorter] if longer[: len(shorter)] == shorter else 1
    return alone + 1 >= FEWEST_GROUPS
