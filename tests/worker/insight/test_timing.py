import pytest

from shared.presets import build_training_spec
from tests.worker.training.pictures import build_pack
from worker.insight import timing
from worker.training.features import open_or_compute_features
from worker.training.frozen_base import FrozenBase
from worker.training.phase_setup import Material

SPEC = build_training_spec(
    "fast",
    {
        "base_model": "MobileNet",
        "weights": None,
        "image_size_px": 32,
        "batch_size": 4,
        "fine_tune_epochs": 1,
        "frozen_epochs": 1,
        "unfreeze_from": 0,
    },
)


@pytest.mark.xdist_group("insight")
def test_steps_of_the_fine_tune_phase_are_timed(tmp_path):
    pack = build_pack(tmp_path)

    told = timing.time_steps(Material(SPEC, pack, [], 1, download_weights=False))

    assert 0 < told.step_seconds < told.build_seconds
    assert told.predict_seconds < told.build_seconds
    assert told.memory_bytes > 100 << 20


@pytest.mark.xdist_group("insight")
def test_an_image_of_the_frozen_pass_is_timed(tmp_path):
    pack, base = build_pack(tmp_path), FrozenBase(SPEC)
    caches = tmp_path / "caches"
    computed = open_or_compute_features(pack, base, SPEC, caches)

    seconds = timing.time_pass(pack, base, computed.origins[0], caches / "engines", 2)

    assert 0 < seconds < 1


def test_an_epoch_has_a_step_for_every_batch_begun():
    assert timing.count_steps(9, SPEC) == 3
    assert timing.count_steps(8, SPEC) == 2
