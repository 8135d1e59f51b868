"""What was set and does nothing is named, with the reason."""

import pytest

from shared.presets import PRESETS, build_training_spec
from worker.training.idle_settings import describe_idle_settings


@pytest.mark.parametrize("name", list(PRESETS))
def test_no_preset_sets_what_it_does_not_use(name):
    assert describe_idle_settings(build_training_spec(name)) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mixup": 0.2}, "`mixup` (nothing is fine-tuned)"),
        ({"augmentation": {"zoom": 0.3}}, "`augmentation` (training sees the plain"),
        ({"plateau_patience": 2}, "`plateau_patience` (the learning rate follows no"),
        (
            {"frozen_epochs": 0, "fine_tune_epochs": 1, "feature_views": 2},
            "`feature_views` (there is no frozen phase)",
        ),
    ],
)
def test_a_setting_without_effect_is_named(changes, told):
    assert told in (describe_idle_settings(build_training_spec("fast", changes)) or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"mixup": 0.2, "fine_tune_epochs": 1},
        {"augmentation": {"zoom": 0.3}, "feature_views": 2},
        {"augmentation": {"vertical_flip": True}, "test_time_augmentation": True},
        {"plateau_patience": 2, "learning_rate_schedule": "plateau"},
    ],
)
def test_a_setting_with_effect_is_not(changes):
    assert describe_idle_settings(build_training_spec("fast", changes)) is None
