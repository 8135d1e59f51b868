"""Identity by content: hashes, identical pictures, the fingerprint of a version."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, Protocol, TypeVar

# Which split keeps a picture that was given in several: a copy of a test image must
# not be trained on, so the test set wins and stays complete.
_SPLIT_RANK = {"test": 0, "val": 1, "train": 2, None: 3}


class HasContent(Protocol):
    """An image that knows what it shows, its bytes, its class, split and name.

    Hashes are bytes that it has: a million of them written out would be new strings.
    """

    @property
    def pixels_digest(self) -> bytes:
        """Hash of the pixels, or of the bytes where nothing was decoded."""
        ...

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes."""
        ...

    label: str
    split: str | None
    name: str


Image = TypeVar("Image", bound=HasContent)


@dataclass(slots=True)
class Merged(Generic[Image]):
    """What is left when identical pictures are one.

    Args:
        kept: One image per content, sorted by hash.
        copies: Dropped copies under the same label, each with the one that is kept.
        conflicts: Groups of identical pictures under different labels. None of them
            is kept: nobody but the user can say which label is right.
        leaks: How many copies were dropped from a split given by the user because
            the same picture was also in another one.
    """

    kept: list[Image]
    copies: list[tuple[Image, Image]]
    conflicts: list[list[Image]]
    leaks: int


def merge_identical(images: Iterable[Image]) -> Merged[Image]:
    """Keeps one of each group of identical pictures, none where labels disagree."""
    merged: Merged[Image] = Merged([], [], [], 0)
    # Sorted, not gathered by content: nearly every group is a single image.
    ordered = sorted(images, key=lambda image: image.pixels_digest)
    for _, same in groupby(ordered, key=lambda image: image.pixels_digest):
        group = list(same)
        # By bytes before names: what is kept must not depend on what a file is called.
        group.sort(key=lambda one: (_SPLIT_RANK[one.split], one.digest, one.name))
        if len({image.label for image in group}) > 1:
            merged.conflicts.append(group)
            continue
        merged.kept.append(group[0])
        merged.copies += [(copy, group[0]) for copy in group[1:]]
        merged.leaks += len({image.split for image in group} - {None}) > 1
    merged.kept.sort(key=lambda image: image.digest)
    return merged


def fingerprint_rows(rows: Iterable[tuple[str, str, str]]) -> str:
    """Returns the dataset version's fingerprint, 64 hexadecimal digits.

    Args:
        rows: (SHA-256 of the original bytes, label, split) of every image, in the order
            of the hashes: sorting them here would hold all of them.

    Raises:
        ValueError: They are in another order.
    """
    digest = hashlib.sha256()
    before = ""
    for sha256, label, split in rows:
        if sha256 < before:
            raise ValueError("the rows of a fingerprint come in the order of hashes")
        before = sha256
        digest.update(fingerprint_line(sha256, label, split))
    return digest.hexdigest()


def fingerprint_line(sha256: str, label: str, split: str) -> bytes:
    """Returns what one image adds to the fingerprint."""
    return f"{sha256}\0{label}\0{split}\n".encode()
