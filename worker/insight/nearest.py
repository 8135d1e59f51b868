"""Nearest neighbours among features: blocked matrix products, flat in memory."""

import numpy as np

_BLOCK_BYTES = 64 << 20


def normalise(features: np.ndarray) -> np.ndarray:
    """Returns rows of length 1, so that products are cosines; empty rows stay 0.

    Shapes:
        features: (n, features).
        result: (n, features) float32.
    """
    x = np.nan_to_num(np.asarray(features, np.float32))
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.maximum(lengths, 1e-12)


def find_nearest(
    directions: np.ndarray, count: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nearest other rows of every row, the nearest first.

    Args:
        directions: As `normalise` returns them.
        count: Neighbours of each; as many as there are, if fewer.
        groups: Rows of one group are no neighbours of each other.

    Returns:
        Positions and cosines; -1 and -inf where there is no further row.

    Shapes:
        directions: (n, features) float32.
        result: (n, count) int64 and (n, count) float32.
    """
    n = len(directions)
    count = min(count, max(1, n - 1))
    places = np.full((n, count), -1, np.int64)
    cosines = np.full((n, count), -np.inf, np.float32)
    rows_at_once = max(1, _BLOCK_BYTES // (4 * max(1, n)))
    own = np.arange(n) if groups is None else groups
    for at in range(0, n, rows_at_once):
        stop = min(n, at + rows_at_once)
        near = directions[at:stop] @ directions.T
        near[own[at:stop, None] == own[None, :]] = -np.inf
        best = np.argpartition(near, -count, axis=1)[:, -count:]
        values = np.take_along_axis(near, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        cosines[at:stop] = np.take_along_axis(values, order, axis=1)
        places[at:stop] = np.take_along_axis(best, order, axis=1)
    places[~np.isfinite(cosines)] = -1
    return places, cosines
