import math

import cv2
import numpy as np
import pytest

from shared.training_spec import Augmentation
from worker.training import augment

NOTHING = Augmentation(horizontal_flip=False, rotation=0, zoom=0, shift=0, brightness=0)
EVERYTHING = Augmentation(
    vertical_flip=True, rotation=180, zoom=0.5, shift=0.3, brightness=0.5
)


def make_images(count=6, height=32, width=32):
    return np.random.default_rng(0).integers(
        0, 256, (count, height, width, 3), dtype=np.uint8
    )


def make_draws(**changes):
    plain = {
        "flip_x": 1.0,
        "flip_y": 1.0,
        "angle_degrees": 0.0,
        "scale": 1.0,
        "shift_x": 0.0,
        "shift_y": 0.0,
        "brightness": 1.0,
    }
    values = {name: np.array([value]) for name, value in (plain | changes).items()}
    return augment.Draws(**values)


def change(image, **changes):
    return augment.apply([image], make_draws(**changes))[0]


def test_a_picture_s_change_depends_on_seed_epoch_and_its_number_only():
    images = make_images()

    together = augment.augment(images, np.arange(6), Augmentation(), seed=3, epoch=5)
    alone = augment.augment(images[4:5], np.array([4]), Augmentation(), seed=3, epoch=5)

    assert np.array_equal(together[4], alone[0])


def test_epochs_and_images_are_changed_differently():
    image = make_images(1)

    def change(**where):
        numbers = np.array([where.pop("number")])
        return augment.augment(image, numbers, Augmentation(), **where).tobytes()

    changed = {
        change(seed=0, epoch=0, number=0),
        change(seed=1, epoch=0, number=0),
        change(seed=0, epoch=1, number=0),
        change(seed=0, epoch=0, number=1),
    }

    assert len(changed) == 4


def test_no_augmentation_returns_the_same_pixels():
    images = make_images()

    changed = augment.augment(images, np.arange(6), NOTHING, seed=0, epoch=0)

    assert np.array_equal(changed, images)


def test_the_plain_pictures_stay_as_they_are():
    images = make_images()
    before = images.copy()
    images.flags.writeable = False

    changed = augment.augment(images, np.arange(6), EVERYTHING, seed=0, epoch=0)

    assert np.array_equal(images, before)
    assert not np.array_equal(changed, before)


def test_flips_mirror_exactly():
    image = make_images(1)[0]

    assert np.array_equal(change(image, flip_x=-1.0), image[:, ::-1])
    assert np.array_equal(change(image, flip_y=-1.0), image[::-1])


def test_a_quarter_turn_is_counter_clockwise_about_the_centre():
    image = make_images(1)[0]

    assert np.array_equal(change(image, angle_degrees=90.0), np.rot90(image))


def test_a_shift_moves_right_and_down_and_mirrors_the_border():
    image = make_images(1, 20, 40)[0]

    moved = change(image, shift_x=0.1, shift_y=0.05)

    assert np.array_equal(moved[1:, 4:], image[:-1, :-4])
    assert np.array_equal(moved[1:, :4], image[:-1, 4:0:-1])


def test_zoom_enlarges_about_the_centre():
    image = np.zeros((33, 33, 3), np.uint8)
    image[14:19, 14:19] = 200

    enlarged = change(image, scale=2.0) > 100

    rows, columns = np.flatnonzero(enlarged.any(axis=(1, 2))), enlarged.any(axis=(0, 2))
    assert (rows[0] + rows[-1]) / 2 == 16
    assert 9 <= len(rows) <= 11
    assert np.array_equal(columns, enlarged.any(axis=(1, 2)))


def test_brightness_rounds_and_clips():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)

    brighter = change(ramp, brightness=1.5)

    expected = np.clip(np.rint(np.arange(256) * 1.5), 0, 255)
    assert np.array_equal(brighter[0, :, 0], expected)


@pytest.mark.parametrize("shape", [(32, 32), (24, 37)])
def test_pixels_are_those_of_one_plain_bilinear_warp(shape):
    """The detour over four channels and inverse matrices must cost no quality."""
    images = make_images(40, *shape)
    draws = augment.draw(EVERYTHING, np.arange(40), seed=1, epoch=2)

    changed = augment.apply(images, draws)

    for row, image in enumerate(images):
        values = {name: array[row] for name, array in vars(draws).items()}
        difference = changed[row].astype(int) - warp_plainly(image, **values)
        assert np.abs(difference).max() <= 1
        assert (difference != 0).mean() < 0.01


def warp_plainly(image, **draw):
    height, width = image.shape[:2]
    angle = math.radians(draw["angle_degrees"])
    cosine, sine = math.cos(angle) * draw["scale"], math.sin(angle) * draw["scale"]
    linear = np.array([[cosine, sine], [-sine, cosine]]) @ np.diag(
        [draw["flip_x"], draw["flip_y"]]
    )
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = np.array([draw["shift_x"] * width, draw["shift_y"] * height])
    warped = cv2.warpAffine(
        image,
        np.column_stack([linear, centre + shift - linear @ centre]),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.clip(np.rint(warped * draw["brightness"]), 0, 255).astype(int)


def test_every_draw_stays_inside_its_bounds():
    bounds = Augmentation(
        vertical_flip=True, rotation=30, zoom=0.2, shift=0.1, brightness=0.3
    )

    draws = augment.draw(bounds, np.arange(500), seed=1, epoch=0)

    assert 29 < np.abs(draws.angle_degrees).max() <= 30
    assert (np.abs(draws.scale - 1) <= 0.2).all()
    assert np.abs(draws.shift_x).max() <= 0.1
    assert np.abs(draws.shift_y).max() <= 0.1
    assert (np.abs(draws.brightness - 1) <= 0.3).all()
    assert 200 < (draws.flip_x == -1).sum() < 300
    assert 200 < (draws.flip_y == -1).sum() < 300


def test_switching_one_change_off_leaves_the_others():
    full = augment.draw(Augmentation(), np.array([3]), seed=1, epoch=2)
    less = augment.draw(Augmentation(rotation=0), np.array([3]), seed=1, epoch=2)

    assert less.angle_degrees == 0
    assert (less.scale, less.shift_x) == (full.scale, full.shift_x)
