"""Principal components of features: what is fitted many times is fitted on them."""

import numpy as np
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

# With a quarter of them a probe lost a point on photographs of waste, with all features
# it gained nothing. In memory, 100,000 pictures as components are 200 MB.
COMPONENTS, COMPONENTS_OF_MANY = 1024, 512
_MANY = 30_000  # images
_SAMPLE_ROWS = 20_000  # from which the components are computed
_BLOCK_ROWS = 2048
_POWER_ITERATIONS = 3


def reduce_features(
    features: np.ndarray, rows: np.ndarray | None = None, *, seed: int = 0
) -> np.ndarray:
    """Returns the leading principal components of standardised features.

    A probe with a quadratic penalty hardly tells them from the features themselves, and
    whatever is fitted many times is fitted on them.

    Args:
        features: May be memory-mapped; read in blocks.
        rows: Ascending; the images that decide scales and components. Defaults to all.
        seed: Draws the rows from which the components of a large set are computed.

    Shapes:
        features: (n, features) float32.
        rows: (m,) integers.
        result: (n, at most `COMPONENTS`) float32, the first with variance 1.
    """
    count = len(features)
    random = np.random.default_rng(seed)
    chosen = np.arange(count) if rows is None else np.asarray(rows)
    if len(chosen) > _SAMPLE_ROWS:
        chosen = np.sort(random.choice(chosen, _SAMPLE_ROWS, replace=False))
    sample = np.nan_to_num(np.asarray(features[chosen], np.float32))
    mean, scale = sample.mean(axis=0), sample.std(axis=0)
    varying = scale[scale > 0]
    floor = 1e-3 * float(np.median(varying)) if len(varying) else 1.0
    weight = np.where(scale > floor, 1 / np.maximum(scale, floor), 0).astype(np.float32)
    sample = (sample - mean) * weight
    most = COMPONENTS_OF_MANY if count > _MANY else COMPONENTS
    kept = min(most, *sample.shape)
    # One thread here and below: how BLAS splits its sums must not depend on the load of
    # the machine, and its threads wait for each other where others compute too.
    with threadpool_limits(1):
        _, values, directions = randomized_svd(
            sample,
            kept,
            n_iter=_POWER_ITERATIONS,  # pyright: ignore[reportArgumentType]
            random_state=seed,
        )
    first = values[0] / np.sqrt(max(1, len(sample) - 1))
    basis = (directions.T / max(float(first), 1e-12)).astype(np.float32)
    reduced = np.empty((count, kept), np.float32)
    for at in range(0, count, _BLOCK_ROWS):
        block = np.nan_to_num(np.asarray(features[at : at + _BLOCK_ROWS], np.float32))
        reduced[at : at + _BLOCK_ROWS] = ((block - mean) * weight) @ basis
    return reduced
