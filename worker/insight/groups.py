"""What folds hold together: pictures of one patient, one scene, or of the same thing.

A probe that knows a picture's twin knows the picture. The dataset's own groups and the
clusters of near duplicates are joined: what shares either lies in one fold.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


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
