"""Folders that say more than class and split: a patient, a film, a place.

Below the class folder (`CLASS/patient-7/picture.png`), else above it
(`patient-7/CLASS/picture.png`), else all there are. What all pictures have in common is
where the dataset lay.
"""

from collections.abc import Collection, Sequence
from itertools import takewhile

from shared.picture_folders import find_own_folders


def name_folders(
    names: Sequence[str], class_folders: Collection[str]
) -> list[str | None]:
    """Returns the folder of each picture, None where there is none to tell.

    Args:
        names: The user's names of all pictures of a version, with their folders.
        class_folders: What folders of classes are called: as all classes are, not the
            picture's own alone, and as those were that are no more. A picture that was
            relabelled lies where it lay.
    """
    known = set(class_folders)
    folders = [find_own_folders(name, known) for name in names]
    shared = _count_shared(folders)
    return ["/".join(parts[shared:]) or None for parts in folders]


def _count_shared(folders: Sequence[tuple[str, ...]]) -> int:
    """Returns how many leading folders are the same for all."""
    columns = zip(*set(folders), strict=False)
    return len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
