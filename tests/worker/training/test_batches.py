import time

import numpy as np
import pytest

from shared.training_spec import Augmentation
from worker.training.batches import (
    FeatureBatches,
    PixelBatches,
    class_weights,
    count_waiting,
    read_ahead,
)
from worker.training.pack import Pixels

IMAGES = 25


def make_split(**changes):
    split = {
        "labels": np.arange(IMAGES, dtype=np.int32) % 3,
        "rows": np.arange(2, IMAGES),
        "classes": 3,
        "batch_size": 8,
        "seed": 7,
        "shuffle": True,
    }
    return split | changes


def make_pixels(**changes):
    pixels = np.random.default_rng(0).integers(
        0, 256, (IMAGES, 16, 16, 3), dtype=np.uint8
    )
    shards = [pixels[:10], pixels[10:20], pixels[20:]]
    return PixelBatches(Pixels(shards), **make_split(**changes)), pixels


def test_an_epoch_holds_every_row_and_fills_its_last_batch_with_the_first_ones():
    views = [np.arange(IMAGES, dtype=np.float32)[:, None]]
    batches = FeatureBatches(views, **make_split())

    batches.start_epoch(0)
    seen = np.concatenate([batches[i][0][:, 0] for i in range(len(batches))])

    assert len(seen) == 3 * 8
    assert sorted(seen[:23]) == list(range(2, IMAGES))
    assert seen[23] == seen[0]


def test_order_depends_on_seed_and_epoch_only():
    first, _ = make_pixels()
    second, _ = make_pixels()
    second.start_epoch(4)
    second.start_epoch(1)
    first.start_epoch(1)

    assert np.array_equal(first[2][0], second[2][0])
    first.start_epoch(2)
    assert not np.array_equal(first[0][0], second[0][0])


def test_a_batch_is_the_same_wherever_an_epoch_is_entered():
    whole, _ = make_pixels(augmentation=Augmentation())
    entered, _ = make_pixels(augmentation=Augmentation())
    whole.start_epoch(3)
    entered.start_epoch(3)

    from_start = list(read_ahead(whole, 0, makers=2))
    from_middle = list(read_ahead(entered, 2, makers=3))

    assert len(from_middle) == 1
    assert np.array_equal(from_start[2][0], from_middle[0][0])
    assert np.array_equal(from_start[2][1], from_middle[0][1])


def test_pictures_come_in_the_order_of_their_labels():
    batches, pixels = make_pixels()
    batches.start_epoch(0)

    pictures, labels = batches[0]

    for picture, label in zip(pictures, labels, strict=True):
        row = next(r for r in range(IMAGES) if np.array_equal(pixels[r], picture))
        assert label.argmax() == row % 3


def test_each_image_draws_one_of_its_views():
    views = [np.full((IMAGES, 1), number, np.float32) for number in range(3)]
    batches = FeatureBatches(views, **make_split())

    batches.start_epoch(0)
    drawn = np.concatenate([batches[i][0][:, 0] for i in range(len(batches))])

    assert set(drawn) == {0, 1, 2}


def test_class_weights_average_to_one_per_image():
    labels = np.array([0] * 9 + [1])

    weights = class_weights(labels, 2)

    assert weights[labels].mean() == pytest.approx(1)
    assert weights[1] == pytest.approx(9 * weights[0])


def test_an_error_while_a_batch_is_made_reaches_the_reader():
    batches, _ = make_pixels()
    batches.inputs = lambda _rows: 1 / 0

    with pytest.raises(ZeroDivisionError):
        list(read_ahead(batches, 0, makers=1))


def test_views_change_from_epoch_to_epoch_and_are_drawn_evenly():
    views = [np.full((3000, 1), number, np.float32) for number in range(3)]
    split = make_split(
        labels=np.zeros(3000, np.int32), rows=np.arange(3000), batch_size=3000
    )
    batches = FeatureBatches(views, **split)

    batches.start_epoch(0)
    first = batches.inputs(np.arange(3000))[:, 0]
    batches.start_epoch(1)
    second = batches.inputs(np.arange(3000))[:, 0]

    assert np.bincount(first.astype(int)).min() > 900
    assert 0.6 < np.mean(first != second) < 0.73


def test_waiting_is_booked_apart_from_work():
    def make_slowly():
        for number in range(3):
            time.sleep(0.05)
            yield (np.array(number),)

    clock = {"waited": 1.0, "spent": 2.0}
    for _batch in count_waiting(make_slowly(), clock):
        time.sleep(0.1)

    assert 1.15 <= clock["waited"] < 1.4
    assert 2.45 <= clock["spent"] < 2.9


def test_what_is_made_ahead_is_hardly_waited_for():
    batches, _ = make_pixels(augmentation=Augmentation())
    batches.start_epoch(0)

    clock = {}
    for _batch in count_waiting(read_ahead(batches, 0, makers=2), clock):
        time.sleep(0.05)

    assert clock["spent"] >= 0.15
    assert clock["waited"] < clock["spent"] / 2
