"""Perceptual hashes: 64 bits that stay nearly the same when a picture is encoded anew.

The signs of the lowest cosine frequencies of a small grey picture (Zauner,
"Implementation and benchmarking of perceptual image hash functions", 2010). Hashes that
differ in few bits are found as multi-index hashing does (Norouzi et al., arXiv:
1307.2982): cut into pieces, two that differ in `radius` bits or fewer share one piece
but for `radius // pieces` bits, so that only equal pieces are looked up.
"""

from collections.abc import Iterator
from itertools import combinations

import cv2
import numpy as np

_SMALL_PX, _KEPT = 32, 8
_PIECES, _PIECE_BITS = 4, 16
_BITS = 64
# Pieces that more pictures share are those of plain pictures, which are all alike:
# their pairs are too many, and say nothing.
_MOST_SHARING = 512
_PAIRS_AT_ONCE = 1 << 22


def hash_pictures(greys: np.ndarray) -> np.ndarray:
    """Returns the hash of each picture.

    Shapes:
        greys: (n, height, width) uint8.
        returns: (n,) uint64.
    """
    small = np.stack(
        [
            cv2.resize(grey, (_SMALL_PX, _SMALL_PX), interpolation=cv2.INTER_AREA)
            for grey in greys
        ]
    ).astype(np.float32)
    cosines = _cosines()
    waves = (cosines @ small @ cosines.T).reshape(len(greys), -1)
    # The first wave is the mean light: it is no part of the middle.
    bits = waves > np.median(waves[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)


def find_close_pairs(hashes: np.ndarray, radius: int) -> np.ndarray:
    """Returns all pairs of rows whose hashes differ in `radius` bits or fewer.

    Hashes of plain pictures, whose pieces hundreds of pictures share, are left out.

    Args:
        hashes: (n,) uint64.
        radius: 0 to 11.

    Returns:
        (pairs, 2) int64, the lower row first, in ascending order.
    """
    found = [np.empty((0, 2), np.int64)]
    for piece in range(_PIECES):
        keys = ((hashes >> np.uint64(_PIECE_BITS * piece)) & np.uint64(0xFFFF)).astype(
            np.int64
        )
        for mask in _list_masks(radius // _PIECES):
            for left, right in _join(keys, mask):
                apart = np.bitwise_count(hashes[left] ^ hashes[right])
                near = (apart <= radius) & (left < right)
                found.append(np.stack([left[near], right[near]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _cosines() -> np.ndarray:
    """The lowest `_KEPT` waves of a cosine transform: (kept, small) float32."""
    places = (np.arange(_SMALL_PX) + 0.5) * np.pi / _SMALL_PX
    return np.cos(np.arange(_KEPT)[:, None] * places).astype(np.float32)


def _list_masks(most: int) -> Iterator[int]:
    for count in range(most + 1):
        for bits in combinations(range(_PIECE_BITS), count):
            yield sum(1 << bit for bit in bits)


def _join(keys: np.ndarray, mask: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields rows (left, right) of which one's key is the other's but for `mask`."""
    order = np.argsort(keys, kind="stable")
    wanted = keys ^ mask
    first = np.searchsorted(keys[order], wanted, "left")
    counts = np.searchsorted(keys[order], wanted, "right") - first
    counts[counts > _MOST_SHARING] = 0
    ends = np.cumsum(counts)
    start = 0
    while start < len(keys):
        base = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, base + _PAIRS_AT_ONCE)))
        here = counts[start:stop]
        left = np.repeat(np.arange(start, stop), here)
        within = np.arange(here.sum()) - np.repeat(np.cumsum(here) - here, here)
        yield left, order[np.repeat(first[start:stop], here) + within]
        start = stop
