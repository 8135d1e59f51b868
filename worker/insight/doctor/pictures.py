"""What the doctor looks at: the pictures of one dataset version, and what is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Pictures:
    """The pictures of one dataset version; all by row, in the order of its pack.

    Args:
        features: What a frozen base makes of the plain pictures; may be mapped.
        labels: Class numbers.
        classes: Class names by number.
        splits: Rows of `train`, `val` and `test`.
        pixels: The pack's; taken in blocks of rows, so it may be mapped.
        sha256s: Of the original bytes.
        names: The user's names, folders included.
        widths_px: Upright, of the originals.
        heights_px: Upright, of the originals.
        groups: What each picture must stay with: a patient, a scene. None where
            unknown. Defaults to unknown for all.
        column: The label table's column that names what belongs together, where one
            does and splits are not dealt by it.
        values: Of that column, of each picture; None where it is empty.

    Shapes:
        features: (n, features) float32.
        labels, widths_px, heights_px: (n,) integers.
        pixels: (n, size, size, 3) uint8.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: list[str]
    splits: dict[str, np.ndarray]
    pixels: Any
    sha256s: Sequence[str]
    names: Sequence[str]
    widths_px: np.ndarray
    heights_px: np.ndarray
    groups: Sequence[str | None] | None = None
    column: str | None = None
    values: Sequence[str | None] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def split_names(self) -> np.ndarray:
        """Name of the split of each picture: `(n,)`."""
        found = np.full(len(self), "", dtype="<U8")
        for name, rows in self.splits.items():
            found[rows] = name
        return found

    def label(self, row: int) -> str:
        """Returns the class name of a picture."""
        return self.classes[self.labels[row]]

    def put_first(self, rows: Sequence[int], splits: Sequence[str]) -> list[int]:
        """Returns `rows` with one of each of `splits` in front, in their order."""
        found: dict[str, int] = {}
        for row in rows:
            found.setdefault(str(self.split_names[row]), row)
        front = [found[name] for name in splits if name in found]
        return [*front, *(row for row in rows if row not in front)]
