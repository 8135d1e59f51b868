"""Which pictures one split must hold together: the groups of a version.

A group is a folder, a value of the label table's column, or a cluster of pictures that
look alike. Pictures without one are dealt each by itself. Clusters are joined to groups
that a version has already: pictures of one patient stay together, and so do copies.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from shared.errors import UserError
from worker.ingest.child_pool import Work, run_in_children
from worker.ingest.dealing import BY_COLUMN, BY_FOLDER
from worker.ingest.folder_groups import name_folders
from worker.ingest.grouping import Grouping
from worker.ingest.join import AnyPicture
from worker.ingest.limits import Limits
from worker.ingest.picture_hash import find_clusters
from worker.ingest.version_source import Parent

_NAME_CHARACTERS = 16  # of the hash that stands for a cluster


def assign_groups(
    pictures: list[AnyPicture],
    grouping: Grouping,
    parent: Parent | None,
    alike: Sequence[Sequence[str]],
    *,
    class_folders: Collection[str],
    limits: Limits,
    report: Callable[[int, int], None],
) -> list[str]:
    """Gives every picture its group, and returns sentences about them.

    Args:
        pictures: Those in use.
        grouping: What makes groups.
        parent: The version that they come from, if any: what it held together as
            copies stays together.
        alike: SHA-256 of pictures that are known to look alike, cluster by cluster.
        class_folders: As for `name_folders`.
        limits: Time and memory of the children that look at pictures.
        report: Called with pictures looked at, and all of them.

    Raises:
        UserError: No picture has a group, so something else was meant.
    """
    named = _name_groups(pictures, grouping, class_folders)
    if grouping.by and not any(named):
        raise UserError(_nothing_found(grouping), field="split")
    before = [picture.group for picture in pictures]
    for picture, name in zip(pictures, named, strict=True):
        picture.group = name
    if grouping.copies:
        _hash_all(pictures, limits, report)
        known = parent.grouping.copies if parent else False
        _join_copies(pictures, alike, before if known else [])
    return _describe(pictures, grouping) + _tell_unnamed(named, grouping)


def _name_groups(
    pictures: list[AnyPicture], grouping: Grouping, class_folders: Collection[str]
) -> list[str | None]:
    """Returns the groups that folders or a column name, clusters aside."""
    if grouping.by == BY_FOLDER:
        return name_folders([picture.name for picture in pictures], class_folders)
    if grouping.by != BY_COLUMN:
        return [None] * len(pictures)
    return [picture.given for picture in pictures]


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
    done = 0
    for outcome in run_in_children(work, tasks):
        unknown[outcome.key].picture_hash = outcome.result
        done += outcome.is_last
        report(done, len(unknown))


def _join_copies(
    pictures: list[AnyPicture],
    alike: Sequence[Sequence[str]],
    before: Sequence[str | None],
) -> None:
    """Joins what looks alike to the groups that are there.

    A group keeps its name as long as it takes in no other; else it is named after the
    first of its pictures. Whoever is alone has none.
    """
    place = {picture.sha256: at for at, picture in enumerate(pictures)}
    ties = [[place[sha] for sha in cluster if sha in place] for cluster in alike]
    hashed = [at for at, one in enumerate(pictures) if one.picture_hash is not None]
    hashes = np.array([pictures[at].picture_hash for at in hashed], np.uint64)
    ties += _gather(zip(hashed, find_clusters(hashes).tolist(), strict=True))
    ties += _gather((at, one.group) for at, one in enumerate(pictures) if one.group)
    ties += _gather((at, group) for at, group in enumerate(before) if group)
    joined = _join(len(pictures), ties)
    for places in _gather(enumerate(joined.tolist())):
        names = {pictures[at].group for at in places} - {None}
        name = pictures[places[0]].sha256[:_NAME_CHARACTERS]
        if len(names) == 1:
            name = names.pop()
        for at in places:
            pictures[at].group = name if len(places) > 1 else None


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


def _nothing_found(grouping: Grouping) -> str:
    if grouping.by == BY_COLUMN:
        return (
            f"`split.column`: no label table gives any picture a value of "
            f"“{grouping.column}”. Name a column of the table that came with the "
            "pictures."
        )
    return (
        "`split.by` folder needs folders beside the class folders, as in "
        "CLASS/patient-7/picture.png or patient-7/CLASS/picture.png. No picture lies "
        "in one that others do not lie in, too."
    )


def _describe(pictures: list[AnyPicture], grouping: Grouping) -> list[str]:
    words = {
        BY_FOLDER: ["folders beside the class folders"],
        BY_COLUMN: [f"the column “{grouping.column}”"],
    }.get(grouping.by or "", [])
    if grouping.copies:
        words = [*words, "clusters of pictures that look alike"]
    if not words:
        return []
    groups = {picture.group for picture in pictures} - {None}
    alone = sum(picture.group is None for picture in pictures)
    sentence = f"Splits keep groups whole: {' and '.join(words)}. "
    sentence += f"There are {len(groups):,}"
    if alone:
        sentence += f", and {alone:,} pictures by themselves"
    return [f"{sentence}."]


def _tell_unnamed(named: list[str | None], grouping: Grouping) -> list[str]:
    """Says of how many pictures the column tells nothing: they tear what is theirs."""
    unnamed = named.count(None)
    if grouping.by != BY_COLUMN or not unnamed:
        return []
    sentence = (
        f"{unnamed:,} of {len(named):,} pictures have no value of the column "
        f"“{grouping.column}”: nothing says what belongs together with them. To give "
        "them one, add them once more, together with a table that has this column."
    )
    return [sentence]
