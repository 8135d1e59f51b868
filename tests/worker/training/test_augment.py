import numpy as np

from shared.training_spec import Augmentation
from worker.training import augment

NOTHING = Augmentation(horizontal_flip=False, rotation=0, zoom=0, shift=0, brightness=0)


def make_images(count=6, side=32):
    return np.random.default_rng(0).integers(
        0, 256, (count, side, side, 3), dtype=np.uint8
    )


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


def test_flips_mirror_exactly():
    image = make_images(1)[0]
    plain = {
        "angle_degrees": 0.0,
        "scale": 1.0,
        "shift_x": 0.0,
        "shift_y": 0.0,
        "brightness": 1.0,
    }

    mirrored = augment.apply(image, augment.Draw(flip_x=True, flip_y=False, **plain))
    turned = augment.apply(image, augment.Draw(flip_x=False, flip_y=True, **plain))

    assert np.array_equal(mirrored, image[:, ::-1])
    assert np.array_equal(turned, image[::-1])


def test_every_draw_stays_inside_its_bounds():
    bounds = Augmentation(
        vertical_flip=True, rotation=30, zoom=0.2, shift=0.1, brightness=0.3
    )

    draws = [augment.draw(bounds, seed=1, epoch=0, image=i) for i in range(500)]

    assert max(abs(draw.angle_degrees) for draw in draws) <= 30
    assert all(0.8 <= draw.scale <= 1.2 for draw in draws)
    assert max(abs(draw.shift_x) for draw in draws) <= 0.1
    assert all(0.7 <= draw.brightness <= 1.3 for draw in draws)
    assert 200 < sum(draw.flip_x for draw in draws) < 300


def test_switching_one_change_off_leaves_the_others():
    full = augment.draw(Augmentation(), seed=1, epoch=2, image=3)
    less = augment.draw(Augmentation(rotation=0), seed=1, epoch=2, image=3)

    assert less.angle_degrees == 0
    assert (less.scale, less.shift_x) == (full.scale, full.shift_x)
