"""Mixed pictures carry mixed labels, in the same shares."""

import numpy as np
import pytest

from worker.training.mixing import mix

SIDE = 40
ONE_HOT = np.eye(4, dtype=np.float32)


def batch():
    levels = np.array([0, 80, 160, 240], np.uint8)
    pictures = np.tile(levels[:, None, None, None], (1, SIDE, SIDE, 3))
    return pictures, ONE_HOT.copy()


def mixed(seed, **alphas):
    pictures, labels = batch()
    return mix(
        pictures,
        labels,
        **({"mixup": 0, "cutmix": 0} | alphas),
        random=np.random.default_rng(seed),
    )


def test_without_an_alpha_the_batch_is_left_alone():
    pictures, labels = mixed(0)

    assert np.array_equal(pictures, batch()[0])
    assert np.array_equal(labels, ONE_HOT)


@pytest.mark.parametrize("seed", range(8))
def test_mixup_blends_pixels_and_labels_by_one_share(seed):
    pictures, labels = mixed(seed, mixup=1.0)

    kept = labels[0, 0]
    assert labels.sum(axis=1) == pytest.approx(1)
    assert pictures[0] == pytest.approx(kept * 0 + (1 - kept) * 240, abs=0.51)
    assert pictures[1] == pytest.approx(kept * 80 + (1 - kept) * 160, abs=0.51)


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_labels_by_the_area_that_was_pasted(seed):
    pictures, labels = mixed(seed, cutmix=1.0)

    assert set(np.unique(pictures[0])) <= {0, 240}
    assert labels[0, 0] == pytest.approx(np.mean(pictures[0] == 0), abs=1e-6)
    assert labels[0, 3] == pytest.approx(np.mean(pictures[0] == 240), abs=1e-6)


def test_with_both_on_batches_get_one_or_the_other():
    blended = [len(np.unique(mixed(s, mixup=1.0, cutmix=1.0)[0][0])) for s in range(20)]

    assert {1, 2} == set(blended), "a blend has one level, a paste two"


def test_the_same_draw_gives_the_same_batch():
    first, again = mixed(3, mixup=0.4), mixed(3, mixup=0.4)

    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], mixed(4, mixup=0.4)[0])
