"""Perceptual hashes of pictures, and the pairs and clusters of those that look alike.

Copies of one scene (another size, another compression, the next frame of a film) have
hashes that differ in few of 64 bits. Those within `MAX_DISTANCE` bits of each other,
directly or through others, are one cluster.

Finding them compares no picture with all others: cut into one band more than bits may
differ, two hashes that are near each other are equal in at least one band (multi-index
hashing: Norouzi, Punjani, Fleet, "Fast Search in Hamming Space with Multi-Index
Hashing", CVPR 2012).
"""

import itertools

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

# Of the 28 pairs within 4 bits among TrashNet's 2,527 photos, 25 show the same object;
# of the 19 pairs that differ in 6 bits, about half do.
MAX_DISTANCE = 4
_BITS = 64
_MOST_SHARING = 12  # pictures with one hash whose pairs are all listed
_HASH_SIZE = 8  # bits a side
_READ_PX = 128  # a JPEG is decoded at this size or somewhat more: 10 times as fast
_PAIRS_AT_ONCE = 4_000_000  # 32 MiB of differences
_EDGES_KEPT = 2_000_000
_PAIRS_KEPT = 1_000_000
_SHORT_RUN = 64
_LARGE_BUCKET = 5_000
_DEEPEST = 3


def prepare() -> None:
    """Makes a child process ready: nothing is to be done."""


def hash_file(path: str) -> int:
    """Returns the hash of an upright JPEG or PNG.

    Args:
        path: As ingest has written it.
    """
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        image.draft("L", (_READ_PX, _READ_PX))
        return hash_picture(image)


def hash_picture(image: Image.Image) -> int:
    """Returns the 64-bit hash of what a picture shows: the signs of its low waves.

    Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010.
    """
    bits = imagehash.phash(image, hash_size=_HASH_SIZE).hash
    return int.from_bytes(np.packbits(bits.reshape(-1)).tobytes(), "big")


def find_pairs(hashes: np.ndarray, max_distance: int) -> np.ndarray:
    """Returns the pairs of pictures whose hashes are near each other.

    Of many with one hash (plain pictures have it) not all pairs are listed, but those
    with the first of them. Of more pairs of hashes than `_PAIRS_KEPT` the nearest are.

    Args:
        hashes: `(pictures,)` uint64.
        max_distance: Most bits in which neighbours differ, 0 to 15.

    Returns:
        `(pairs, 2)` int64, the lower place first, in ascending order.
    """
    unique, where = np.unique(hashes.astype(np.uint64), return_inverse=True)
    kept = _Pairs(unique)
    search = _Search(unique, max_distance, kept)
    search.look_among(np.arange(len(unique)), np.arange(_BITS), _DEEPEST)
    near = kept.list()
    counts = np.bincount(where, minlength=len(unique))
    order = np.argsort(where, kind="stable")
    places = np.split(order, np.cumsum(counts)[:-1])
    first = order[np.cumsum(counts) - counts]
    is_single = (counts[near] == 1).all(axis=1)
    found = [np.zeros((0, 2), np.int64), first[near[is_single]]]
    found += [_pair_up(own, own) for own in places if len(own) > 1]
    found += [_pair_up(places[a], places[b]) for a, b in near[~is_single].tolist()]
    pairs = np.concatenate(found)
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _pair_up(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns all pairs; of too many those with the first of either."""
    if len(ones) * len(others) > _MOST_SHARING**2:
        firsts = [(ones[:1], others), (ones, others[:1])]
        return np.concatenate([_pair_up_all(*pair) for pair in firsts])
    return _pair_up_all(ones, others)


def _pair_up_all(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(ones, others), axis=-1).reshape(-1, 2)


def find_clusters(hashes: np.ndarray, max_distance: int = MAX_DISTANCE) -> np.ndarray:
    """Returns the number of each hash's cluster, from 0.

    Args:
        hashes: `(pictures,)` uint64.
        max_distance: Most bits in which neighbours differ, 0 to 15.

    Returns:
        `(pictures,)` int32; equal numbers mean the same cluster.
    """
    if not len(hashes):
        return np.zeros(0, np.int32)
    unique, where = np.unique(hashes.astype(np.uint64), return_inverse=True)
    edges = _Edges(len(unique))
    search = _Search(unique, max_distance, edges)
    search.look_among(np.arange(len(unique)), np.arange(_BITS), _DEEPEST)
    return edges.components()[where]


class _Edges:
    """Pairs of neighbours, kept as few as tell the clusters."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._rows: list[np.ndarray] = []
        self._columns: list[np.ndarray] = []
        self._count = 0

    def add(self, rows: np.ndarray, columns: np.ndarray) -> None:
        self._rows.append(rows)
        self._columns.append(columns)
        self._count += len(rows)
        if self._count > _EDGES_KEPT:
            self._thin_out()

    def components(self) -> np.ndarray:
        if not self._rows:
            return np.arange(self._nodes, dtype=np.int32)
        rows, columns = np.concatenate(self._rows), np.concatenate(self._columns)
        ones = np.ones(len(rows), np.bool_)
        graph = coo_matrix((ones, (rows, columns)), shape=(self._nodes, self._nodes))
        return connected_components(graph, directed=False)[1]

    def _thin_out(self) -> None:
        """Keeps one edge a node: from each to the first of its cluster."""
        labels = self.components()
        _, first = np.unique(labels, return_index=True)
        self._rows, self._columns = [np.arange(self._nodes)], [first[labels]]
        self._count = 0


class _Pairs:
    """Pairs of neighbours themselves; of too many the nearest."""

    def __init__(self, hashes: np.ndarray) -> None:
        self._hashes = hashes
        self._found = [np.zeros((0, 2), np.int64)]
        self._count = 0

    def add(self, rows: np.ndarray, columns: np.ndarray) -> None:
        self._found.append(np.stack([rows, columns], axis=1))
        self._count += len(rows)
        if self._count > 2 * _PAIRS_KEPT:
            self._thin_out()

    def list(self) -> np.ndarray:
        """Returns the pairs, each once: `(pairs, 2)`."""
        self._thin_out()
        return self._found[0]

    def _thin_out(self) -> None:
        pairs = np.unique(np.sort(np.concatenate(self._found), axis=1), axis=0)
        if len(pairs) > _PAIRS_KEPT:
            apart = self._hashes[pairs[:, 0]] ^ self._hashes[pairs[:, 1]]
            nearest = np.argsort(np.bitwise_count(apart), kind="stable")
            pairs = pairs[np.sort(nearest[:_PAIRS_KEPT])]
        self._found, self._count = [pairs], len(pairs)


class _Search:
    """Looks for pairs that differ in few bits.

    Args:
        hashes: All of them, each once.
        most: Bits in which neighbours differ at most.
        edges: Receives the pairs, some of them several times.
    """

    def __init__(self, hashes: np.ndarray, most: int, edges: "_Edges | _Pairs") -> None:
        self._hashes, self._most, self.edges = hashes, most, edges

    def look_among(self, members: np.ndarray, bits: np.ndarray, depth: int) -> None:
        """Adds the pairs among `members`, which differ in `bits` alone.

        Where so many are equal in a band that comparing them would take long (pictures
        of one kind share their broad outlines), the other bits tell them apart, down
        to `depth`.
        """
        bands = self._most + 1
        for band in _deal_bits(self._hashes[members], bits, bands):
            values = _gather_bits(self._hashes[members], band)
            order = np.argsort(values, kind="stable")
            self._compare_near(members[order], values[order])
            rest = np.setdiff1d(bits, band)
            for start, end in _long_runs(values[order]):
                bucket = members[order[start:end]]
                if len(bucket) > _LARGE_BUCKET and depth and len(rest) >= 2 * bands:
                    self.look_among(bucket, rest, depth - 1)
                else:
                    self._compare_all(bucket)

    def _compare_near(self, members: np.ndarray, values: np.ndarray) -> None:
        """Compares each with the next few that are equal in the band."""
        at = np.arange(len(members))
        for step in range(1, _SHORT_RUN):
            at = at[at < len(members) - step]
            at = at[values[at] == values[at + step]]
            if not len(at):
                return
            self._add(members[at], members[at + step])

    def _compare_all(self, members: np.ndarray) -> None:
        hashes = self._hashes[members]
        rows_at_once = max(1, _PAIRS_AT_ONCE // len(members))
        for start in range(0, len(members), rows_at_once):
            block = hashes[start : start + rows_at_once, None] ^ hashes[None, start:]
            rows, columns = np.nonzero(np.bitwise_count(block) <= self._most)
            later = columns > rows
            self.edges.add(
                members[start + rows[later]], members[start + columns[later]]
            )

    def _add(self, rows: np.ndarray, columns: np.ndarray) -> None:
        differences = self._hashes[rows] ^ self._hashes[columns]
        near = np.bitwise_count(differences) <= self._most
        self.edges.add(rows[near], columns[near])


def _long_runs(values: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of the runs of equal values in which some are far apart."""
    cuts = [0, *(np.flatnonzero(np.diff(values)) + 1), len(values)]
    runs = itertools.pairwise(cuts)
    return [(start, end) for start, end in runs if end - start > _SHORT_RUN]


def _deal_bits(hashes: np.ndarray, bits: np.ndarray, bands: int) -> list[np.ndarray]:
    """Gives every band as much as the others of what tells the hashes apart."""
    shares = np.array(
        [_gather_bits(hashes, bits[[n]]).mean() for n in range(len(bits))]
    )
    telling = shares * (1 - shares)
    order = bits[np.argsort(-telling, kind="stable")]
    return [order[band::bands] for band in range(bands)]


def _gather_bits(hashes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    values = np.zeros(len(hashes), np.uint64)
    for at, bit in enumerate(bits):
        values |= ((hashes >> np.uint64(bit)) & np.uint64(1)) << np.uint64(at)
    return values
