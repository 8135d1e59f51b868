"""Which pictures lie near which in the features of a frozen base.

Features are standardised, reduced to their main directions and brought to length one:
the similarity of two pictures is then a cosine, and all of them a matrix product, a
block of rows at a time. 100,000 pictures take minutes; of more, as many are drawn for
everybody to be compared with.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from worker.insight.probe import Report, report_nothing

MOST_DIRECTIONS = 128
# Everybody is compared with this many at most: the time grows with it.
MOST_REFERENCES = 100_000
_BLOCK_ROWS = 2048
_BLOCK_BYTES = 32 << 20  # of similarities at once
_PIECE = 64
# A feature that varies by less than this share of what is usual says nothing.
_SMALLEST_DEVIATION = 1e-3


@dataclass(frozen=True)
class Neighbours:
    """The nearest other pictures of each, nearest first.

    Args:
        rows: Their rows.
        similarities: Cosines, -1 to 1.

    Shapes:
        rows: (n, k) int32.
        similarities: (n, k) float32.
    """

    rows: np.ndarray
    similarities: np.ndarray


def reduce_features(features: np.ndarray) -> np.ndarray:
    """Returns each picture's direction in the main directions of all of them.

    A value that is no number counts as the usual one, so such a picture is like no
    other; a feature that never changes has no say.

    Shapes:
        features: (n, features) float32; may be mapped.
        returns: (n, at most `MOST_DIRECTIONS`) float32 of length one, or zero.
    """
    mean, scale = _measure_spread(features)
    size = features.shape[1]
    products = np.zeros((size, size))
    for block in _standardised(features, mean, scale):
        products += block.T @ block
    _, directions = np.linalg.eigh(products)
    kept = directions[:, ::-1][:, :MOST_DIRECTIONS].astype(np.float32)
    reduced = np.empty((len(features), kept.shape[1]), np.float32)
    at = 0
    for block in _standardised(features, mean, scale):
        reduced[at : at + len(block)] = block @ kept
        at += len(block)
    lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
    reduced /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return reduced


def find_neighbours(
    reduced: np.ndarray,
    count: int,
    seed: int = 0,
    report: Report = report_nothing,
) -> Neighbours:
    """Returns the `count` nearest of each picture, or all others where there are fewer.

    Args:
        reduced: From `reduce_features`.
        count: How many are wanted.
        seed: Draws whom to compare with, where there are too many.
        report: Called with the pictures done, and all.
    """
    total = len(reduced)
    references = np.arange(total)
    if total > MOST_REFERENCES:
        draw = np.random.default_rng(seed)
        references = np.sort(draw.choice(total, MOST_REFERENCES, replace=False))
    others = reduced[references].T.copy()
    count = max(0, min(count, len(references) - 1))
    rows = np.empty((total, count), np.int32)
    similarities = np.empty((total, count), np.float32)
    if not count:
        return Neighbours(rows, similarities)
    step = max(1, _BLOCK_BYTES // (4 * len(references)))
    for start in range(0, total, step):
        here = slice(start, min(start + step, total))
        found = reduced[here] @ others
        _leave_out_self(found, start, references)
        nearest = _pick_largest(found, count)
        rows[here] = references[nearest]
        similarities[here] = np.take_along_axis(found, nearest, axis=1)
        report(here.stop, total)
    return Neighbours(rows, similarities)


def _measure_spread(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each feature's mean and deviation, infinite where it never changes."""
    sums = np.zeros(features.shape[1])
    squares, counts = sums.copy(), sums.copy()
    for at in range(0, len(features), _BLOCK_ROWS):
        block = np.asarray(features[at : at + _BLOCK_ROWS], np.float64)
        is_number = np.isfinite(block)
        block = np.where(is_number, block, 0.0)
        sums += block.sum(axis=0)
        squares += np.square(block).sum(axis=0)
        counts += is_number.sum(axis=0)
    counts = np.maximum(counts, 1)
    mean = sums / counts
    deviation = np.sqrt(np.maximum(squares / counts - mean**2, 0.0))
    varying = deviation[deviation > 0]
    least = _SMALLEST_DEVIATION * float(np.median(varying)) if len(varying) else 0.0
    return mean, np.where(deviation > least, deviation, np.inf)


def _standardised(
    features: np.ndarray, mean: np.ndarray, scale: np.ndarray
) -> Iterator[np.ndarray]:
    for at in range(0, len(features), _BLOCK_ROWS):
        block = np.asarray(features[at : at + _BLOCK_ROWS], np.float32)
        block = np.where(np.isfinite(block), block, mean.astype(np.float32))
        yield (block - mean.astype(np.float32)) / scale.astype(np.float32)


def _leave_out_self(found: np.ndarray, start: int, references: np.ndarray) -> None:
    own = np.arange(start, start + len(found))
    places = np.minimum(np.searchsorted(references, own), len(references) - 1)
    is_there = references[places] == own
    found[np.flatnonzero(is_there), places[is_there]] = -np.inf


def _pick_largest(found: np.ndarray, count: int) -> np.ndarray:
    """Returns the columns of the `count` largest of each row, largest first."""
    columns = _narrow_down(found, count)
    values = np.take_along_axis(found, columns, axis=1)
    some = np.argpartition(values, -count, axis=1)[:, -count:]
    columns = np.take_along_axis(columns, some, axis=1)
    values = np.take_along_axis(values, some, axis=1)
    # Equal ones in the order of their columns, so that they do not change places.
    order = np.lexsort((columns, -values), axis=1)
    return np.take_along_axis(columns, order, axis=1)


def _narrow_down(found: np.ndarray, count: int) -> np.ndarray:
    """Returns columns among which the `count` largest of each row are.

    They lie in the `count` pieces with the largest maxima: maxima are found ten times
    as fast as the whole row is partitioned.
    """
    rows, total = found.shape
    pieces = total // _PIECE
    if pieces <= count:
        return np.broadcast_to(np.arange(total), found.shape)
    maxima = found[:, : pieces * _PIECE].reshape(rows, pieces, _PIECE).max(axis=2)
    best = np.argpartition(maxima, -count, axis=1)[:, -count:]
    columns = (best[:, :, None] * _PIECE + np.arange(_PIECE)).reshape(rows, -1)
    rest = np.arange(pieces * _PIECE, total)
    return np.concatenate([columns, np.broadcast_to(rest, (rows, len(rest)))], axis=1)
