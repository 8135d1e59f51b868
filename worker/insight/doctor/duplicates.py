"""Which pictures show the same scene: copies, encoded anew, resized, cropped, lit.

Two that may be copies are found by their hashes or by their features, and their pixels
decide (`comparison`): features alone would take all solar cells for one.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from worker import events
from worker.ingest.picture_hash import find_pairs
from worker.insight.doctor.comparison import compare_pairs
from worker.insight.doctor.finding import NO_GROUP
from worker.insight.doctor.neighbours import Neighbours
from worker.insight.probe import Report, report_nothing

# Copies differ in 0 to 6 of 64 bits, cropped ones in up to 18.
_RADIUS = 7
# Copies are mostly the nearest of all, in photographs at 0.9 and above.
_NEAREST, _LEAST_SIMILARITY = 3, 0.85
MOST_COMPARED = 100_000  # pairs: some minutes


@dataclass(frozen=True)
class Duplicates:
    """The pairs of pictures that show the same, and their clusters.

    Args:
        pairs: Rows, the lower one first.
        likeness: Of each pair.
        clusters: Number of each picture's cluster by its first row, or `NO_GROUP`.

    Shapes:
        pairs: (pairs, 2) int64.
        likeness: (pairs,) float32, 0 to 1.
        clusters: (n,) int32.
    """

    pairs: np.ndarray
    likeness: np.ndarray
    clusters: np.ndarray

    @cached_property
    def groups(self) -> np.ndarray:
        """A number for each picture that its near duplicates share, and nobody else.

        For folds that keep copies together: a wrong label would be confirmed by its
        own twin.
        """
        total = len(self.clusters)
        alone = total + np.arange(total)
        return np.where(self.clusters == NO_GROUP, alone, self.clusters)

    def list_clusters(self) -> list[tuple[np.ndarray, float]]:
        """Returns the rows of each cluster, and the likeness of its likest pair."""
        order = np.argsort(self.clusters, kind="stable")
        order = order[self.clusters[order] != NO_GROUP]
        cuts = np.flatnonzero(np.diff(self.clusters[order])) + 1
        best = np.zeros(len(self.clusters), np.float32)
        np.maximum.at(best, self.pairs[:, 0], self.likeness)
        parts = np.split(order, cuts) if len(order) else []
        return [(rows, float(best[rows].max())) for rows in parts]


def find_duplicates(
    pixels: Any,
    hashes: np.ndarray,
    neighbours: Neighbours,
    *,
    threads: int = 1,
    report: Report = report_nothing,
) -> Duplicates:
    """Returns all pairs that show the same.

    Args:
        pixels: The pack's.
        hashes: From `appearance`.
        neighbours: The nearest of each.
        threads: How many pairs are compared at a time.
        report: Called with the pairs compared, and all.

    Shapes:
        pixels: (n, size, size, 3) uint8.
        hashes: (2, n) uint64.
    """
    pairs = _list_candidates(hashes, neighbours)
    likeness = compare_pairs(pixels, pairs, threads=threads, report=report)
    pairs, likeness = pairs[likeness > 0], likeness[likeness > 0]
    return Duplicates(pairs, likeness, _cluster(pairs, len(neighbours.rows)))


def _list_candidates(hashes: np.ndarray, neighbours: Neighbours) -> np.ndarray:
    """Pairs worth a look; where they are too many, those with the likest hashes."""
    nearest = neighbours.rows[:, :_NEAREST]
    left, place = np.nonzero(neighbours.similarities[:, :_NEAREST] >= _LEAST_SIMILARITY)
    near = np.sort(np.stack([left, nearest[left, place]], axis=1), axis=1)
    total = hashes.shape[1]
    close = np.sort(find_pairs(hashes.ravel(), _RADIUS) % total, axis=1)
    pairs = np.unique(np.concatenate([near.astype(np.int64), close]), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    if len(pairs) > MOST_COMPARED:
        events.note(
            "warning",
            f"{len(pairs):,} pairs of pictures may show the same; the "
            f"{MOST_COMPARED:,} likest are compared. Leave out copies and forecast the "
            "version that this makes to find the others.",
        )
        left, right = hashes[:, pairs[:, 0]], hashes[:, pairs[:, 1]]
        apart = [
            np.bitwise_count(left[i] ^ right[j]) for i, j in ((0, 0), (0, 1), (1, 0))
        ]
        order = np.argsort(np.min(apart, axis=0), kind="stable")
        pairs = pairs[np.sort(order[:MOST_COMPARED])]
    return pairs


def _cluster(pairs: np.ndarray, total: int) -> np.ndarray:
    clusters = np.full(total, NO_GROUP, np.int32)
    if not len(pairs):
        return clusters
    ones = np.ones(len(pairs), np.int8)
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(total, total))
    _, parts = connected_components(graph, directed=False)
    _, first, counts = np.unique(parts, return_index=True, return_counts=True)
    shared = counts[parts] > 1
    clusters[shared] = first[parts][shared]
    return clusters
