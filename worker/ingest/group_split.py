"""Deals whole groups into the splits, each class as near to its share as they allow.

The largest groups are dealt first, each to the split that brings the counts of its
classes nearest to what they should be (chi-squared: deviations of a small split count
more). Where every image is a group of its own this is the apportionment of Webster, so
it also completes splits that are there already when new images come to a version.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import UserError
from worker.ingest.split import (
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    Keyed,
    SplitShares,
    find_missing,
    list_by_class,
    note_empty,
    note_missing,
    order_key,
    refuse_few_classes,
    usable_wishes,
)

# Of equally many wishes within a group the first wins: a copy of a test image must not
# be trained on.
_RANK = {TEST: 0, VAL: 1, TRAIN: 2}
_WORDS = {VAL: "validation", TEST: "test"}
_CAUSE = "Groups and splits that are kept"


def deal_groups(
    images: Sequence[Keyed], shares: SplitShares | None = None
) -> tuple[list[str], list[str]]:
    """Gives every image its split, images of one group the same.

    A group with wishes goes where most of them say; the others are dealt so that each
    class comes near its shares.

    Args:
        images: One per distinct content.
        shares: Defaults to 70 % training, 15 % validation, 15 % test, seed 0.

    Returns:
        The split of each image, in the order of `images`, and sentences for the user.

    Raises:
        UserError: Fewer than two classes, a class that is too small or has no training
            image, or too few groups.
    """
    shares = shares or SplitShares()
    refuse_few_classes(images)
    given, notes = usable_wishes(images)
    missing = find_missing(given)
    wishes = [None if missing and wish == TRAIN else wish for wish in given]
    groups = _gather(images, wishes, shares.seed)
    board = _Board(images, shares)
    for group in groups:
        board.put(group, group.wish or board.find_best(group))
    board.fill_gaps(groups)
    splits = [""] * len(images)
    for group in groups:
        for at in group.members:
            splits[at] = group.split
    _refuse_empty(splits, len(groups))
    notes += note_missing(missing) + _note_moved(wishes, splits)
    return splits, notes + note_empty(list_by_class(images), splits, _CAUSE)


@dataclass(slots=True)
class _Group:
    members: list[int]
    counts: dict[str, int]
    wish: str | None
    split: str = ""


def _gather(
    images: Sequence[Keyed], wishes: Sequence[str | None], seed: int
) -> list[_Group]:
    """The groups, those with a wish first, then from the largest to the smallest."""
    members: dict[tuple[bool, str], list[int]] = defaultdict(list)
    for at, image in enumerate(images):
        members[image.group is not None, image.group or image.digest.hex()].append(at)
    ordered = sorted(
        members.items(), key=lambda item: (-len(item[1]), order_key(item[0][1], seed))
    )
    groups = [
        _Group(
            positions,
            dict(Counter(images[at].label for at in positions)),
            _vote([wish for at in positions if (wish := wishes[at])]),
        )
        for _, positions in ordered
    ]
    return sorted(groups, key=lambda group: group.wish is None)


def _vote(wishes: list[str]) -> str | None:
    counts = Counter(wishes)
    return min(counts, key=lambda wish: (-counts[wish], _RANK[wish]), default=None)


class _Board:
    """How many images of each class every split has, and how many it should have."""

    def __init__(self, images: Sequence[Keyed], shares: SplitShares) -> None:
        self._totals = Counter(image.label for image in images)
        self._shares = {split: getattr(shares, split) for split in SPLITS}
        self._counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}

    def put(self, group: _Group, split: str) -> None:
        if group.split:
            self._counts[group.split].subtract(group.counts)
        self._counts[split].update(group.counts)
        group.split = split

    def find_best(self, group: _Group) -> str:
        return min(SPLITS, key=lambda split: self._cost(group, split))

    def _cost(self, group: _Group, split: str) -> float:
        """By how much the deviation from the shares grows with `group` in `split`."""
        cost = 0.0
        for label, count in group.counts.items():
            wanted = self._shares[split] * self._totals[label]
            lacking = self._counts[split][label] - wanted
            cost += count * (2 * lacking + count) / wanted
        return cost

    def fill_gaps(self, groups: list[_Group]) -> None:
        """Moves small groups to where a class has no image, if one can be spared."""
        for split in SPLITS:
            lacking = [x for x in sorted(self._totals) if not self._counts[split][x]]
            for label in lacking:
                spare = self._find_spare(groups, label, split)
                if spare:
                    self.put(spare, split)

    def _find_spare(
        self, groups: list[_Group], label: str, split: str
    ) -> _Group | None:
        if self._counts[split][label]:  # a group of several classes came meanwhile
            return None
        return next(
            (
                group
                for group in reversed(groups)  # from the smallest
                if label in group.counts
                and not group.wish
                and (split == TRAIN or self._can_spare(group))
            ),
            None,
        )

    def _can_spare(self, group: _Group) -> bool:
        there = self._counts[group.split]
        return all(there[label] > count for label, count in group.counts.items())


def _refuse_empty(splits: list[str], groups: int) -> None:
    empty = [_WORDS[part] for part in (VAL, TEST) if part not in set(splits)]
    if empty:
        raise UserError(
            f"No image is left for the {' and the '.join(empty)} split: there are "
            f"{groups:,} groups, and whole groups go into one split. Group by "
            "something finer, or deal all images anew (`again`).",
            field="split",
        )


def _note_moved(wishes: Sequence[str | None], splits: list[str]) -> list[str]:
    moved = sum(
        wish is not None and wish != split
        for wish, split in zip(wishes, splits, strict=True)
    )
    if not moved:
        return []
    what = "image was" if moved == 1 else "images were"
    return [
        f"{moved:,} {what} moved out of the given split, so that groups stay whole."
    ]
