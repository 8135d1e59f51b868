"""The published model's answer is the mean over the mirror images it may look at."""

import numpy as np
import pytest

from shared.errors import UserError
from shared.training_spec import Augmentation, parse_training_spec
from worker.training import build_model
from worker.training.mirrored_views import average_over_mirrors, list_mirrors

SPEC = {"base_model": "MobileNet-0.25", "weights": None, "image_size_px": 32}


def classifier():
    spec = parse_training_spec(SPEC)
    base = build_model.build_base(spec)
    head = build_model.build_head(spec, base.output_shape[-1], 3)
    return build_model.join(base, head)


@pytest.mark.parametrize(
    ("flips", "views"),
    [
        ({"horizontal_flip": True, "vertical_flip": False}, 2),
        ({"horizontal_flip": False, "vertical_flip": True}, 2),
        ({"horizontal_flip": True, "vertical_flip": True}, 4),
    ],
)
def test_the_answer_is_the_mean_over_the_allowed_mirror_images(flips, views):
    model, allowed = classifier(), Augmentation(**flips)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3))
    pictures = pictures.astype(np.float32)

    answers = average_over_mirrors(model, allowed).predict_on_batch(pictures)

    mirrored = [
        model.predict_on_batch(np.ascontiguousarray(np.flip(pictures, axes)))
        for axes in list_mirrors(allowed)
    ]
    assert len(mirrored) == views
    assert answers == pytest.approx(np.mean(mirrored, axis=0), abs=1e-6)


def test_without_a_flip_there_is_nothing_to_average_over():
    still = {"horizontal_flip": False, "vertical_flip": False}

    with pytest.raises(UserError, match="test_time_augmentation"):
        parse_training_spec({"test_time_augmentation": True, "augmentation": still})
