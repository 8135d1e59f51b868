"""Deals images into training, validation and test, by their content alone.

Deterministic and stratified: within each class the images are ordered by a hash of
(seed, content) and the first ones go to test and validation. The same upload always
splits alike, whatever the files are called and in whichever order they came; and since
identical pictures are merged before, none can straddle the splits.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import UserError
from shared.picture_folders import TEST, TRAIN, VAL
from worker.ingest.found import name_some, quote

SPLITS = (TRAIN, VAL, TEST)
# One for each split: with fewer, a class could not be trained, chosen and judged.
MIN_IMAGES_PER_CLASS = 3
_GIVEN = "The given splits"


@dataclass(frozen=True, slots=True)
class SplitShares:
    """Which part of each class goes where when the user gave no split.

    Args:
        train: Share of the training split.
        val: Share of the validation split, above 0.
        test: Share of the test split, above 0.
        seed: Another seed deals other images.
    """

    train: float = 0.7
    val: float = 0.15
    test: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        shares = (self.train, self.val, self.test)
        if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:  # noqa: PLR2004
            raise UserError(
                "`split` needs `train`, `val` and `test` above 0 that add up to 1. "
                f"Received: train={self.train}, val={self.val}, test={self.test}."
            )


@dataclass(frozen=True, slots=True)
class Keyed:
    """What decides an image's split: content, class, the wish if any, and its group.

    Args:
        digest: SHA-256 of its bytes: the very object that the picture has.
        label: Its class.
        given: The split that the user gave, or that it has in an earlier version.
        group: What one split must hold together; None for an image by itself.
    """

    digest: bytes
    label: str
    given: str | None = None
    group: str | None = None


def assign_splits(
    images: Sequence[Keyed], shares: SplitShares | None = None
) -> tuple[list[str], list[str]]:
    """Gives every image its split.

    Splits given by the user are kept, and the images of a class without one complete
    what that class lacks. Where no validation (or no test) image was given at all,
    these are dealt from the training images.

    Args:
        images: One per distinct content.
        shares: Defaults to 70 % training, 15 % validation, 15 % test, seed 0.

    Returns:
        The split of each image, in the order of `images`, and sentences for the user.

    Raises:
        UserError: Fewer than two classes, or a class that is too small to split or
            has no training image, by name.
    """
    shares = shares or SplitShares()
    refuse_few_classes(images)
    given, notes = usable_wishes(images)
    splits: list[str] = [wish or "" for wish in given]
    missing = find_missing(given)
    by_class = list_by_class(images)
    for positions in by_class.values():
        positions.sort(key=lambda at: order_key(images[at].digest.hex(), shares.seed))
        # Those without a wish never join a validation or test set that was given: the
        # user chose what to be judged by.
        chosen = {given[at] for at in positions}
        parts = [part for part in (VAL, TEST) if part not in chosen]
        _deal([at for at in positions if not given[at]], parts, shares, splits)
        if missing:
            kept = [at for at in positions if given[at] == TRAIN]
            _deal(kept, missing, shares, splits)
    notes += note_missing(missing) + note_empty(by_class, splits, _GIVEN)
    return splits, notes


def list_by_class(images: Sequence[Keyed]) -> dict[str, list[int]]:
    """Returns the positions of each class's images."""
    by_class: dict[str, list[int]] = defaultdict(list)
    for position, image in enumerate(images):
        by_class[image.label].append(position)
    return by_class


def find_missing(given: Sequence[str | None]) -> list[str]:
    """Returns which of validation and test nobody was given to, where some were."""
    there = set(given)
    return [part for part in (VAL, TEST) if part not in there] if any(there) else []


def refuse_few_classes(images: Sequence[Keyed]) -> None:
    """Raises `UserError` unless there are two classes, each large enough to split."""
    counts: dict[str, int] = defaultdict(int)
    for image in images:
        counts[image.label] += 1
    if len(counts) < 2:  # noqa: PLR2004 - a classifier tells at least two apart
        found = f"only {quote(next(iter(counts)))}" if counts else "none"
        raise UserError(
            "A dataset needs usable images of at least 2 classes. "
            f"Found: {found}. Put the images of each class into a folder of its own, "
            "or add a table with the columns filename and label."
        )
    small = sorted(k for k, n in counts.items() if n < MIN_IMAGES_PER_CLASS)
    if small:
        raise UserError(
            f"Each class needs at least {MIN_IMAGES_PER_CLASS} different usable "
            "images, one each for training, validation and test. Too small: "
            f"{name_some([f'{quote(k)} ({counts[k]})' for k in small])}. "
            "Add images to these classes or leave them out."
        )


def usable_wishes(
    images: Sequence[Keyed],
) -> tuple[list[str | None], list[str]]:
    """Returns the wishes of the images, none where they leave nothing to train on."""
    given = [image.given for image in images]
    if TRAIN in given or None in given:
        return given, []
    note = (
        "No image was given as training image, so the given splits were set aside "
        "and all images were dealt anew."
    )
    return [None] * len(images), [note]


def _deal(
    positions: list[int], parts: list[str], shares: SplitShares, splits: list[str]
) -> None:
    """Gives the first positions to `parts` by their shares and the rest to training."""
    whole = shares.train + sum(getattr(shares, part) for part in parts)
    start = 0
    for part in reversed(parts):
        if len(positions) <= len(parts):
            break
        count = max(1, round(len(positions) * getattr(shares, part) / whole))
        for at in positions[start : start + count]:
            splits[at] = part
        start += count
    for at in positions[start:]:
        splits[at] = TRAIN


def order_key(name: str, seed: int) -> bytes:
    """Returns what orders images by hash, or groups by name, as if shuffled."""
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def note_missing(missing: list[str]) -> list[str]:
    """Returns sentences about splits that were taken from the training images."""
    words = {VAL: "validation", TEST: "test"}
    return [
        f"No {words[part]} images were given: they were taken from the training images."
        for part in missing
    ]


def note_empty(
    by_class: dict[str, list[int]], splits: list[str], cause: str
) -> list[str]:
    """Returns sentences about classes that lack a split.

    Args:
        by_class: Positions of each class's images.
        splits: The split of each image.
        cause: Why that may be, as the beginning of a sentence: "The given splits".

    Raises:
        UserError: A class has no training image.
    """
    lacking: dict[str, list[str]] = {part: [] for part in SPLITS}
    for label, positions in by_class.items():
        there = {splits[at] for at in positions}
        for part in SPLITS:
            if part not in there:
                lacking[part].append(quote(label))
    if lacking[TRAIN]:
        raise UserError(
            f"{cause} leave these classes without a training image: "
            f"{name_some(sorted(lacking[TRAIN]))}. Move some of their images to "
            "the training split."
        )
    words = {VAL: "validation", TEST: "test"}
    return [
        f"{cause} leave {name_some(sorted(lacking[part]))} without a "
        f"{words[part]} image."
        for part in (VAL, TEST)
        if lacking[part]
    ]
