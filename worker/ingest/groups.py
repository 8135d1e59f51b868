"""Which pictures one split must hold together: the groups of a version.

A group is a folder below the class folders, a value of the label table's column, or a
cluster of pictures that look alike. Pictures without one are dealt each by itself.
"""

import os
from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np

from shared.errors import UserError
from worker.ingest.child_pool import Work, run_in_children
from worker.ingest.dealing import BY_COLUMN, BY_DUPLICATES, BY_FOLDER, Dealing
from worker.ingest.found import clean_label
from worker.ingest.join import AnyPicture
from worker.ingest.limits import Limits
from worker.ingest.picture_hash import find_clusters
from worker.ingest.version_source import Parent

_NAME_CHARACTERS = 16  # of the hash that stands for a cluster


def decide_by(dealing: Dealing, parent: Parent | None) -> tuple[str | None, str | None]:
    """Returns what makes the groups and its column: as asked, else as in the parent."""
    if dealing.names_by or parent is None:
        return dealing.by, dealing.column
    return parent.by, parent.column


def assign_groups(
    pictures: list[AnyPicture],
    by: str | None,
    column: str | None,
    limits: Limits,
    report: Callable[[int, int], None],
) -> list[str]:
    """Gives every picture its group, and returns sentences about them.

    Args:
        pictures: Those in use; pictures of the parent have the groups of the parent
            where these were made in the same way, else none.
        by: What makes groups; None takes them all away.
        column: The label table's column, where it names them.
        limits: Time and memory of the children that look at pictures.
        report: Called with pictures looked at, and all of them.

    Raises:
        UserError: No picture has a group, so something else was meant.
    """
    if by is None:
        for picture in pictures:
            picture.group = None
        return []
    if by == BY_FOLDER:
        for picture in pictures:
            picture.group = picture.group or name_folder(picture.name, picture.label)
    elif by == BY_DUPLICATES:
        _hash_all(pictures, limits, report)
        _name_clusters(pictures)
    if by != BY_DUPLICATES and not any(picture.group for picture in pictures):
        raise UserError(_nothing_found(by, column), field="split")
    return _describe(pictures, by, column)


def forget_other_groups(parent: Parent, by: str | None, column: str | None) -> None:
    """Takes away groups that were made in another way than is asked for now."""
    if (parent.by, parent.column) == (by, column):
        return
    for picture in parent.pictures:
        picture.group = None
    for entry in parent.quarantine:
        entry.picture.group = None


def name_folder(name: str, label: str) -> str | None:
    """Returns the folders below the class folder, or all where none is called so.

    Args:
        name: The user's name of a picture, with its folders.
        label: Its class.
    """
    folders = PurePosixPath(name).parts[:-1]
    at = [n for n, folder in enumerate(folders) if clean_label(folder) == label]
    return "/".join(folders[at[-1] + 1 :] if at else folders) or None


def _hash_all(
    pictures: list[AnyPicture], limits: Limits, report: Callable[[int, int], None]
) -> None:
    """Computes the hashes that nobody knows yet; what cannot be read has none."""
    unknown = [picture for picture in pictures if picture.picture_hash is None]
    if not unknown:
        return
    work = Work(
        module="worker.ingest.picture_hash",
        function="hash_file",
        seconds=limits.image_seconds,
        memory_bytes=limits.image_memory_bytes,
        children=max(1, min(len(unknown), len(os.sched_getaffinity(0)))),
    )
    tasks = (
        (at, (str(picture.rewritten or picture.path),))
        for at, picture in enumerate(unknown)
    )
    for done, outcome in enumerate(run_in_children(work, tasks), start=1):
        unknown[outcome.key].picture_hash = outcome.result
        report(done, len(unknown))


def _name_clusters(pictures: list[AnyPicture]) -> None:
    """Names each cluster of several after the first of its pictures."""
    hashed = [picture for picture in pictures if picture.picture_hash is not None]
    hashes = np.array([picture.picture_hash for picture in hashed], np.uint64)
    clusters = find_clusters(hashes)
    sizes = np.bincount(clusters, minlength=1)
    names: dict[int, str] = {}
    for picture in pictures:
        picture.group = None
    for picture, cluster in zip(hashed, clusters.tolist(), strict=True):
        if sizes[cluster] > 1:
            first = names.setdefault(cluster, picture.sha256[:_NAME_CHARACTERS])
            picture.group = first


def _nothing_found(by: str, column: str | None) -> str:
    if by == BY_COLUMN:
        return (
            f"`split.column`: no label table gives any picture a value of “{column}”. "
            "Name a column of the table that came with the pictures."
        )
    return (
        "`split.by` folder needs folders below the class folders, as in "
        "CLASS/patient-7/picture.png. No picture lies in one."
    )


def _describe(pictures: list[AnyPicture], by: str, column: str | None) -> list[str]:
    groups = {picture.group for picture in pictures} - {None}
    alone = sum(picture.group is None for picture in pictures)
    words = {
        BY_FOLDER: "folders below the class folders",
        BY_COLUMN: f"the column “{column}”",
        BY_DUPLICATES: "clusters of pictures that look alike",
    }
    sentence = f"Splits keep groups whole: {words[by]}. There are {len(groups):,}"
    if alone:
        sentence += f", and {alone:,} pictures by themselves"
    return [f"{sentence}."]
