"""What folds hold together: pictures of one patient, one scene, or of the same thing.

A probe that knows a picture's twin knows the picture. The dataset's own groups and the
clusters of near duplicates are joined: what shares either lies in one fold.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from worker.training.regression import draw_rows

# Of the test pictures: if more have their like outside, a split tears that kind of
# group. What is below moves no promise by as much as its range is wide.
_TORN = 0.01


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


def measure_torn(groups: np.ndarray, splits: Mapping[str, np.ndarray]) -> float:
    """Returns the share of the test pictures whose group is outside the test split too.

    Args:
        groups: Of every image.
        splits: Rows of `train`, `val` and `test`.
    """
    test = splits["test"]
    if not len(test):
        return 0.0
    others = np.concatenate([splits["train"], splits["val"]])
    return float(np.isin(groups[test], groups[others]).mean())


def list_held(
    kinds: Sequence[np.ndarray], splits: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """Returns those kinds of groups that the split has held together.

    Args:
        kinds: Groups of every image, of each kind.
        splits: Rows of `train`, `val` and `test`.
    """
    return [groups for groups in kinds if measure_torn(groups, splits) < _TORN]


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
