import psutil
import pytest

from shared.presets import build_training_spec
from tests.worker.training.pictures import build_pack, write_pictures
from worker.insight import timed_steps, timing
from worker.insight.step_timing import CannotTime, count_steps
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
    assert told.choice_seconds == 0  # nobody compiles on CPUs


@pytest.mark.xdist_group("insight")
def test_an_image_of_the_frozen_pass_is_timed(tmp_path):
    pack, base = build_pack(tmp_path), FrozenBase(SPEC)
    caches = tmp_path / "caches"
    computed = open_or_compute_features(pack, base, SPEC, caches)

    seconds = timing.time_pass(pack, base, computed.origins[0], caches / "engines", 2)

    assert 0 < seconds < 1


def test_an_epoch_has_a_step_for_every_batch_begun():
    assert count_steps(9, SPEC) == 3
    assert count_steps(8, SPEC) == 2


@pytest.fixture
def asked(tmp_path):
    """SPEC.json of a small training."""
    write_pictures(tmp_path / "pictures", classes=2, each=8, side=40)
    return {
        "kind": "train",
        "dataset": str(tmp_path / "pictures"),
        "training": SPEC.model_dump(mode="json"),
        "caches": str(tmp_path / "caches"),
        "download_weights": False,
    }


@pytest.mark.xdist_group("insight")
def test_a_process_of_its_own_tells_what_steps_take(tmp_path, asked):
    told = timed_steps.time_apart(asked, tmp_path / "timing", lambda *_: None)

    assert 0 < told.step_seconds < told.build_seconds
    assert told.memory_bytes > 100 << 20


@pytest.mark.xdist_group("insight")
def test_without_fine_tuning_predictions_are_timed(tmp_path, asked):
    asked["training"] |= {"fine_tune_epochs": 0}

    told = timed_steps.time_apart(asked, tmp_path / "timing", lambda *_: None)

    assert told.step_seconds == told.deviation == 0
    assert 0 < told.predict_seconds < told.build_seconds
    assert told.memory_bytes > 100 << 20


@pytest.mark.xdist_group("insight")
def test_what_cannot_be_trained_is_an_answer(tmp_path, asked):
    asked["training"] |= {"weights": "imagenet", "base_model": "ResNet50"}
    asked["weights_dirs"] = []

    with pytest.raises(CannotTime, match="ResNet50"):
        timed_steps.time_apart(asked, tmp_path / "timing", lambda *_: None)


@pytest.mark.xdist_group("insight")
def test_a_file_that_fails_meanwhile_is_no_answer(tmp_path, asked):
    (tmp_path / "caches").write_text("in the way")

    with pytest.raises(OSError, match="caches"):
        timed_steps.time_apart(asked, tmp_path / "timing", lambda *_: None)


@pytest.mark.xdist_group("insight")
def test_what_the_kernel_kills_does_not_fit(tmp_path, asked, monkeypatch):
    monkeypatch.setattr(timed_steps, "_NEWS_EVERY_SECONDS", 0.2)

    def kill(*_: int) -> None:
        for child in psutil.Process().children():
            if "worker.insight.timed_steps" in child.cmdline():
                child.kill()

    with pytest.raises(CannotTime, match="does not fit into the memory"):
        timed_steps.time_apart(asked, tmp_path / "timing", kill)
