"""Which pictures one split must hold together: the groups of a version.

A group is a folder, a value of the label table's column, or a cluster of pictures that
look alike. Pictures without one are dealt each by itself. Clusters are joined to groups
that a version has already: pictures of one patient stay together, and so do copies.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from shared.errors import UserError
from worker.ingest.child_pool import Work, run_in_children
from worker.ingest.dealing import BY_COLUMN, BY_DUPLICATES, BY_FOLDER, Dealing
from worker.ingest.folder_groups import name_folders
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
    alike: Sequence[Sequence[str]],
    *,
    limits: Limits,
    report: Callable[[int, int], None],
) -> list[str]:
    """Gives every picture its group, and returns sentences about them.

    Args:
        pictures: Those in use; those of the parent have its groups, unless these were
            forgotten.
        by: What makes groups; None takes them all away.
        column: The label table's column, where it names them.
        alike: SHA-256 of pictures that are known to look alike, cluster by cluster.
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
        folders = name_folders(
            [picture.name for picture in pictures],
            [picture.label for picture in pictures],
        )
        for picture, folder in zip(pictures, folders, strict=True):
            picture.group = folder
    elif by == BY_DUPLICATES:
        _hash_all(pictures, limits, report)
        _name_clusters(pictures, alike)
    if by != BY_DUPLICATES and not any(picture.group for picture in pictures):
        raise UserError(_nothing_found(by, column), field="split")
    return _describe(pictures, by, column)


def forget_other_groups(parent: Parent, by: str | None, column: str | None) -> None:
    """Takes away groups that were made in another way than is asked for now.

    Not where clusters of copies are asked for: those are joined to them.
    """
    if by == BY_DUPLICATES or (parent.by, parent.column) == (by, column):
        return
    for picture in parent.pictures:
        picture.group = None
    for entry in parent.quarantine:
        entry.picture.group = None


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


def _name_clusters(pictures: list[AnyPicture], alike: Sequence[Sequence[str]]) -> None:
    """Joins what looks alike to the groups that are there.

    Each group is named after the first of its pictures; whoever is alone has none.
    """
    place = {picture.sha256: at for at, picture in enumerate(pictures)}
    ties = [[place[sha] for sha in cluster if sha in place] for cluster in alike]
    hashed = [at for at, one in enumerate(pictures) if one.picture_hash is not None]
    hashes = np.array([pictures[at].picture_hash for at in hashed], np.uint64)
    ties += _gather(zip(hashed, find_clusters(hashes).tolist(), strict=True))
    ties += _gather((at, one.group) for at, one in enumerate(pictures) if one.group)
    joined = _join(len(pictures), ties)
    sizes = np.bincount(joined, minlength=1)
    names: dict[int, str] = {}
    for picture, number in zip(pictures, joined.tolist(), strict=True):
        first = names.setdefault(number, picture.sha256[:_NAME_CHARACTERS])
        picture.group = first if sizes[number] > 1 else None


def _gather(numbered: Iterable[tuple[int, Hashable]]) -> list[list[int]]:
    """Returns the places that have the same number or name."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for at, number in numbered:
        found[number].append(at)
    return list(found.values())


def _join(count: int, ties: list[list[int]]) -> np.ndarray:
    """Returns a number of each of `count` places, the same for those that are tied."""
    pairs = [(tie[0], other) for tie in ties for other in tie[1:]]
    left, right = np.array(pairs, int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(left), bool), (left, right)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _nothing_found(by: str, column: str | None) -> str:
    if by == BY_COLUMN:
        return (
            f"`split.column`: no label table gives any picture a value of “{column}”. "
            "Name a column of the table that came with the pictures."
        )
    return (
        "`split.by` folder needs folders beside the class folders, as in "
        "CLASS/patient-7/picture.png or patient-7/CLASS/picture.png. No picture lies "
        "in one that others do not lie in, too."
    )


def _describe(pictures: list[AnyPicture], by: str, column: str | None) -> list[str]:
    groups = {picture.group for picture in pictures} - {None}
    alone = sum(picture.group is None for picture in pictures)
    words = {
        BY_FOLDER: "folders beside the class folders",
        BY_COLUMN: f"the column “{column}”",
        BY_DUPLICATES: "clusters of pictures that look alike",
    }
    sentence = f"Splits keep groups whole: {words[by]}. There are {len(groups):,}"
    if alone:
        sentence += f", and {alone:,} pictures by themselves"
    return [f"{sentence}."]
