"""What folds hold together: pictures of one patient, one scene, or of the same thing.

A probe that knows a picture's twin knows the picture. The dataset's own groups and the
clusters of near duplicates are joined: what shares either lies in one fold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from worker.training.regression import draw_rows

# Of the test pictures: if more have their like outside, a split tears that kind of
# group. What is below moves no promise by as much as its range is wide.
_TORN = 0.01


@dataclass(frozen=True)
class Torn:
    """Groups that a split has torn: a training meets their like in the test split.

    Args:
        kinds: Groups of every image, of each kind that is torn.
        held: Those that the split holds together; None for none.
        share: Of the test pictures, those whose like is outside the test split, 0 to 1.
    """

    kinds: list[np.ndarray]
    held: np.ndarray | None
    share: float


def read_groups(dataset: Path) -> np.ndarray | None:
    """Returns a number of each image's group in the manifest; None without any.

    Args:
        dataset: Folder of a dataset version.

    Shapes:
        returns: (images,) int64; images without a group are alone in theirs.
    """
    path = dataset / "manifest.parquet"
    if not path.is_file() or "group" not in pq.read_schema(path).names:
        return None
    named = pq.read_table(path, columns=["group"])["group"].to_pylist()
    if not any(named):
        return None
    alone = (f"\0{row}" for row in range(len(named)))
    keys = [group or own for group, own in zip(named, alone, strict=True)]
    return np.unique(keys, return_inverse=True)[1]


def join_groups(kinds: Sequence[np.ndarray]) -> np.ndarray:
    """Returns groups that share an image of any kind of group: the finest such.

    Shapes:
        kinds: (images,) integers each; at least one.
        returns: (images,) int64.
    """
    first, *others = (np.unique(kind, return_inverse=True)[1] for kind in kinds)
    for other in others:
        # An image ties its group of the one kind to its group of the other.
        left, right = first.max() + 1, other.max() + 1
        ties = coo_matrix(
            (np.ones(len(first), np.int8), (first, left + other)),
            shape=(left + right, left + right),
        )
        first = connected_components(ties, directed=False)[1][first]
    return np.unique(first, return_inverse=True)[1]


def find_torn(
    kinds: Sequence[np.ndarray], splits: Mapping[str, np.ndarray]
) -> Torn | None:
    """Returns what the split has torn; None where that is too little to matter.

    Args:
        kinds: Groups of every image, of each kind.
        splits: Rows of `train`, `val` and `test`.
    """
    test = splits["test"]
    others = np.concatenate([splits["train"], splits["val"]])
    meets = [np.isin(groups[test], groups[others]) for groups in kinds]
    is_torn = [len(test) > 0 and bool(met.mean() >= _TORN) for met in meets]
    if not any(is_torn):
        return None
    held = [groups for groups, torn in zip(kinds, is_torn, strict=True) if not torn]
    return Torn(
        [groups for groups, torn in zip(kinds, is_torn, strict=True) if torn],
        join_groups(held) if held else None,
        float(
            np.any([met for met, t in zip(meets, is_torn, strict=True) if t], 0).mean()
        ),
    )


def measure_met(kinds: Sequence[np.ndarray], folds: np.ndarray) -> float:
    """Returns the share of pictures whose like is in another fold, too.

    Args:
        kinds: Groups of the pictures, of each kind.
        folds: Of the pictures.
    """
    met = np.zeros(len(folds), bool)
    for groups in kinds:
        pairs = np.unique(np.stack([groups, folds]), axis=1)[0]
        torn, counts = np.unique(pairs, return_counts=True)
        met |= np.isin(groups, torn[counts > 1])
    return float(met.mean())


def number_groups(groups: np.ndarray) -> np.ndarray:
    """Returns numbers from 0 on, in the order in which the groups first appear.

    Shapes:
        groups, returns: (n,) integers.
    """
    _, first, numbers = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers]


def draw_in_groups(
    rows: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None,
    most: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Returns about `most` of `rows`, in whole groups.

    Fewer pictures of every patient are not fewer patients: what is to stand for a
    smaller dataset must lack some of them. Of the groups of each class, told by most of
    their pictures, their share is drawn and one at least.

    Args:
        rows: Positions in `labels` and `groups`.
        labels: Class numbers.
        groups: Of every image; None for each by itself, as `regression.draw_rows`
            draws them.
        most: 1 or more; all rows, if there are no more.
        random: Draws them.

    Shapes:
        rows, returns: (n,) integers, the result ascending.
        labels, groups: (images,) integers.
    """
    if groups is None:
        return draw_rows(rows, labels, most, random)
    numbers = number_groups(groups[rows])
    classes = _find_classes(numbers, labels[rows])
    wanted = max(1, round(most * len(classes) / len(rows)))
    drawn = draw_rows(np.arange(len(classes)), classes, wanted, random)
    return np.sort(rows[np.isin(numbers, drawn)])


def _find_classes(numbers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the class that most pictures of each group have."""
    most = int(labels.max()) + 1
    pairs, counts = np.unique(numbers * most + labels, return_counts=True)
    order = np.lexsort((counts, pairs // most))
    ends = np.flatnonzero(np.diff(pairs[order] // most, append=-1))
    return pairs[order][ends] % most
