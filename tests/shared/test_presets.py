"""A preset gives way to what the user changes, and only to that."""

import pytest

from shared import presets
from shared.errors import UserError
from shared.presets import PRESETS, build_training_spec
from shared.training_spec import TrainingSpec


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_is_a_valid_spec(name):
    spec = build_training_spec(name).model_dump(mode="json")

    assert presets.merge(spec, PRESETS[name]) == spec


@pytest.mark.parametrize("name", list(PRESETS))
def test_hidden_layers_may_be_added_to_every_preset(name):
    spec = build_training_spec(name, {"head": {"units": [64]}})

    assert (spec.head.units, spec.head_start) == ([64], "random")


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize(
    "changes", [{"head": {"units": [64]}}, {"head_start": "random"}]
)
def test_a_random_head_is_trained_as_by_default_in_every_preset(name, changes):
    spec, plain = build_training_spec(name, changes), TrainingSpec()

    assert spec.frozen_epochs == plain.frozen_epochs
    assert spec.frozen_learning_rate == plain.frozen_learning_rate
    assert spec.head.dropout == plain.head.dropout


@pytest.mark.parametrize("name", list(PRESETS))
def test_mirroring_may_be_switched_off_in_every_preset(name):
    still = build_training_spec(name, {"augmentation": {"horizontal_flip": False}})
    upside_down = build_training_spec(
        name, {"augmentation": {"horizontal_flip": False, "vertical_flip": True}}
    )

    assert not still.test_time_augmentation
    assert upside_down.test_time_augmentation == PRESETS[name].get(
        "test_time_augmentation", False
    )


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_frozen_phase_may_be_left_out_or_lengthened_in_every_preset(name):
    without = build_training_spec(name, {"frozen_epochs": 0, "fine_tune_epochs": 2})
    longer = build_training_spec(name, {"frozen_epochs": 7})

    assert without.head_start == "random"
    assert longer.frozen_learning_rate == TrainingSpec().frozen_learning_rate


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("weights", [None, "random", "none", "Random", " NULL "])
def test_random_weights_learn_from_the_first_step_on_in_every_preset(name, weights):
    spec = build_training_spec(name, {"weights": weights})

    assert spec.weights is None
    assert (spec.frozen_epochs, spec.unfreeze_from) == (0, 0)
    assert spec.fine_tune_epochs > build_training_spec("best").fine_tune_epochs
    assert spec.fine_tune_learning_rate > TrainingSpec().fine_tune_learning_rate
    assert spec.batch_norm == "trained"
    assert not spec.augmentation.measured


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize(
    ("changes", "frozen"),
    [
        ({"frozen_epochs": 3}, 3),
        ({"frozen_epochs": 0}, 0),
        ({"fine_tune_epochs": 0}, TrainingSpec().frozen_epochs),
        ({"fine_tune_epochs": 7}, 0),
        ({"head_start": "logistic"}, TrainingSpec().frozen_epochs),
        ({"augmentation": {"measured": True}}, TrainingSpec().frozen_epochs),
    ],
)
def test_random_weights_leave_what_the_user_names(name, changes, frozen):
    spec = build_training_spec(name, {"weights": None, **changes})
    scratch = build_training_spec(name, {"weights": None}).fine_tune_epochs
    pretrained = build_training_spec(name).fine_tune_epochs

    assert spec.frozen_epochs == frozen
    expected = pretrained if frozen else scratch
    assert spec.fine_tune_epochs == changes.get("fine_tune_epochs", expected)


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({}, 300),
        ({"image_size_px": None}, None),
        ({"image_size_px": 224}, 224),
        ({"base_model": "EfficientNetLite1"}, 320),
        ({"base_model": "EfficientNetB7"}, 800),
    ],
)
def test_all_but_fast_look_at_larger_pictures_than_the_base_knows(changes, side):
    for name in ("balanced", "best"):
        assert build_training_spec(name, changes).image_size_px == side
    assert build_training_spec("fast").image_size_px is None


def test_an_unknown_base_model_is_refused():
    with pytest.raises(UserError, match="NoNet"):
        build_training_spec("best", {"base_model": "NoNet"})


def test_two_changes_that_exclude_each_other_are_refused():
    changes = {"head": {"units": [64]}, "head_start": "logistic"}

    with pytest.raises(UserError, match="head_start"):
        build_training_spec("fast", changes)


def test_nested_changes_leave_their_neighbours_as_the_preset_has_them(monkeypatch):
    own = {"augmentation": {"rotation": 5, "zoom": 0.2}}
    monkeypatch.setitem(presets.PRESETS, "own", own)

    spec = build_training_spec("own", {"augmentation": {"zoom": 0.3}})

    assert (spec.augmentation.rotation, spec.augmentation.zoom) == (5, 0.3)


def test_an_unknown_preset_is_refused_by_name():
    with pytest.raises(UserError, match="fast, balanced, best") as caught:
        build_training_spec("quick")

    assert caught.value.field == "preset"


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_training_is_plain_whatever_its_seed_is(name):
    training = build_training_spec(name, {"seed": 7}).model_dump(mode="json")
    older = {key: value for key, value in training.items() if key != "mixup"}

    assert presets.is_plain(name, training)
    assert presets.is_plain(name, older)
    assert not presets.is_plain(name, training | {"batch_size": 3})
    assert not presets.is_plain(name, training | {"batch_size": "many"})
    assert not presets.is_plain("thorough", training)
