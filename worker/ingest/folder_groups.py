"""Folders that say more than class and split: a patient, a film, a place.

Below the class folder (`CLASS/patient-7/picture.png`), else above it
(`patient-7/CLASS/picture.png`), else all there are. What all pictures have in common is
where the dataset lay.
"""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePosixPath

from worker.ingest.found import clean_label
from worker.ingest.split import SPLIT_ALIASES


def name_folders(names: Sequence[str], labels: Sequence[str]) -> list[str | None]:
    """Returns the folder of each picture, None where there is none to tell.

    Args:
        names: The user's names of all pictures of a version, with their folders.
        labels: Their classes.
    """
    # All classes', not the picture's own: one that was relabelled lies where it lay.
    classes = set(labels)
    folders = [_find_own(name, classes) for name in names]
    shared = _count_shared(folders)
    return ["/".join(parts[shared:]) or None for parts in folders]


def _find_own(name: str, classes: set[str]) -> tuple[str, ...]:
    folders = PurePosixPath(name).parts[:-1]
    at = [n for n, folder in enumerate(folders) if clean_label(folder) in classes]
    below = folders[at[-1] + 1 :] if at else folders
    above = folders[: at[-1]] if at else ()
    return tuple(
        folder
        for folder in below or above
        if folder.lower() not in SPLIT_ALIASES and clean_label(folder) not in classes
    )


def _count_shared(folders: Sequence[tuple[str, ...]]) -> int:
    """Returns how many leading folders are the same for all."""
    columns = zip(*set(folders), strict=False)
    return len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
