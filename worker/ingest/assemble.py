"""From proved pictures, and a parent if there is one, to what a version is made of."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from shared.errors import UserError
from worker.ingest.carried import carry_over
from worker.ingest.collect import Collected
from worker.ingest.content import Merged, merge_identical
from worker.ingest.contents import know_contents
from worker.ingest.diff import compare
from worker.ingest.edits import apply_edits
from worker.ingest.found import SkipList
from worker.ingest.group_split import deal_groups
from worker.ingest.grouping import Grouping, decide_grouping
from worker.ingest.groups import assign_groups
from worker.ingest.identical import note_identical
from worker.ingest.join import Joined, join, take_alone
from worker.ingest.limits import Limits
from worker.ingest.lost_files import find_lost, refuse_lost
from worker.ingest.request import ADD, Request
from worker.ingest.split import Keyed, SplitShares, assign_splits
from worker.ingest.verify import Picture
from worker.ingest.version_source import Parent, load_parent

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Version:
    """What a dataset version is made of.

    Args:
        joined: The pictures in use and in quarantine.
        splits: The split of each in use.
        merged: What was the same among the new pictures.
        collected: Notes made on the way.
        skips: What was left out.
        limits: Bounds for the children that make thumbnails.
        split: How it was dealt, as the report tells it.
        parent: The version that it was made from.
        diff: What changed against that.
    """

    joined: Joined
    splits: list[str]
    merged: Merged[Picture]
    collected: Collected
    skips: SkipList
    limits: Limits
    split: dict[str, Any]
    parent: Parent | None = None
    diff: dict[str, Any] | None = None


def open_parent(request: Request, report: Report) -> Parent | None:
    """Returns the version to start from with the edits applied, if one was named.

    Raises:
        UserError: An edit cannot be done.
    """
    if request.parent is None:
        return None
    source = request.parent
    parent = load_parent(source.path, source.name, source.number)
    apply_edits(parent, request.edits)
    if request.sources:
        know_contents(parent, request.limits, report)
    return parent


def assemble(
    request: Request,
    parent: Parent | None,
    pictures: list[Picture],
    *,
    collected: Collected,
    skips: SkipList,
    report: Report,
) -> Version:
    """Joins, groups and splits the pictures of a version.

    Args:
        request: What was asked for.
        parent: From `open_parent`.
        pictures: The new ones, proved.
        collected: How the sources were understood; receives further notes.
        skips: Receives copies and conflicts.
        report: Called with pictures looked at, and all of them.

    Raises:
        UserError: What is left is no dataset, or is what was there before; or the file
            of a picture of the parent is lost.
    """
    merged = merge_identical(pictures)
    grouping = _decide_grouping(request, parent, collected)
    joined = _join(merged, request, parent, collected, skips=skips, report=report)
    note_identical(merged, joined, skips)
    class_folders = _list_class_folders(joined, parent if request.mode == ADD else None)
    groups = assign_groups(
        joined.pictures,
        grouping,
        parent,
        request.dealing.alike,
        class_folders=class_folders,
        limits=request.limits,
        report=report,
    )
    shares = request.dealing.shares(parent.shares if parent else None)
    splits, notes = _deal(joined, request, parent, shares)
    collected.notes += [*groups, *notes]
    facts = grouping.as_facts()
    facts |= {"seed": shares.seed, "class_folders": sorted(class_folders)}
    diff = compare(parent, joined, splits) if parent else None
    if parent and diff:
        is_changed = any(diff["counts"].values()) or bool(joined.renewed)
        is_changed |= bool(joined.regrouped)
        if not is_changed and parent.grouping == grouping:
            _refuse_unchanged(parent, is_edit=bool(request.edits))
    if parent and request.mode == ADD:
        # Behind all that could refuse the version: its sentences tell of what is new.
        carry_over(skips, parent, joined, collected.read)
    return Version(
        joined, splits, merged, collected, skips, request.limits, facts, parent, diff
    )


def _join(
    merged: Merged[Picture],
    request: Request,
    parent: Parent | None,
    collected: Collected,
    *,
    skips: SkipList,
    report: Report,
) -> Joined:
    """Returns the pictures of the version, none of which has lost its file."""
    if parent is None:
        return take_alone(merged, None, ())
    if request.mode == ADD:
        total = len(parent.pictures) + len(parent.quarantine)
        lost = find_lost(parent.everything, total, report)
        joined = join(merged, parent, skips, lost)
    else:
        came = {picture.digest for picture in merged.kept}
        again = [one for one in parent.pictures if one.digest in came]
        lost = find_lost(again, len(again), report)
        joined = take_alone(merged, parent, lost)
    refuse_lost(joined, lost, parent.name)
    joined.renewed = len(lost)
    if lost:
        collected.notes.append(
            f"{len(lost):,} pictures of {parent.name} whose files were lost came "
            "again, and were stored anew."
        )
    return joined


def _decide_grouping(
    request: Request, parent: Parent | None, collected: Collected
) -> Grouping:
    """Returns what makes groups; values of another column than before are forgotten.

    Before new pictures join the old ones, so that values are of one column whoever has
    them.
    """
    before = parent.grouping if parent else Grouping()
    grouping = decide_grouping(request.dealing, before)
    if grouping.column is None and collected.group_column:
        grouping = replace(grouping, column=collected.group_column)
        collected.notes.append(_note_column(collected.group_column))
    if parent and grouping.column != before.column:
        parent.forget_given()
    return grouping


def _note_column(column: str) -> str:
    return (
        f"The values of the column “{column}” are kept: they seem to name what belongs "
        "together. Splits keep it whole only where they are dealt by it."
    )


def _list_class_folders(joined: Joined, parent: Parent | None) -> set[str]:
    """Returns what the folders of classes are called in the names of the pictures.

    As classes are, those claimed in quarantine too, and as they were in the versions
    whose pictures these are: a class that was merged into another has left its folder.
    """
    labels = {picture.label for picture in joined.pictures}
    labels.update(label for entry in joined.quarantine for label in entry.labels)
    return labels | (parent.class_folders if parent else frozenset())


def _deal(
    joined: Joined, request: Request, parent: Parent | None, shares: SplitShares
) -> tuple[list[str], list[str]]:
    is_again = request.dealing.again
    known = {one.sha256 for one in parent.pictures} if parent and is_again else set()
    keyed = [
        Keyed(
            picture.digest,
            picture.label,
            None if picture.sha256 in known else picture.split or None,
            picture.group,
        )
        for picture in joined.pictures
    ]
    is_grouped = any(one.group is not None for one in keyed)
    if is_grouped or (parent and not is_again):
        return deal_groups(keyed, shares)
    return assign_splits(keyed, shares)


def _refuse_unchanged(parent: Parent, *, is_edit: bool) -> NoReturn:
    if is_edit:
        raise UserError(
            f"The edits change nothing: every picture of {parent.name} is already as "
            "they say.",
            field="edits",
        )
    raise UserError(
        f"This changes nothing: {parent.name} holds the same pictures under the same "
        "labels, in the same splits.",
        field="sources",
    )
