"""What the accuracy benchmark judges, and what makes two of its cells the same."""

from benchmarks import accuracy
from shared.training_spec import TrainingSpec


def summary(key, mean, seeds):
    return {key: mean, f"{key}_seeds": [{"seed": seed} for seed in seeds]}


def test_a_bar_is_for_the_plain_preset_and_its_three_seeds():
    whole = summary("elpv_balanced", 0.5, [1, 2, 3])

    assert list(accuracy.list_bars(whole, is_plain=True)) == ["elpv_balanced"]
    assert not accuracy.list_bars(whole, is_plain=False)
    assert not accuracy.list_bars(summary("elpv_balanced", 0.5, [1, 2]), is_plain=True)
    assert not accuracy.list_bars(summary("data_best", 0.5, [1, 2, 3]), is_plain=True)


def test_what_falls_short_of_its_bar_is_missed():
    whole = summary("elpv_balanced", 0.88, [1, 2, 3])
    bars = accuracy.list_bars(whole, is_plain=True)

    assert len(accuracy.list_missed(whole, bars)) == 1
    assert not accuracy.list_missed(whole | {"elpv_balanced": 0.8842}, bars)


def test_only_what_is_off_by_default_is_left_out():
    defaults = TrainingSpec().model_dump(mode="json")
    fields = defaults | {"unfreeze_from": 0, "early_stopping_patience": None}

    kept = accuracy.leave_out_off(fields, defaults)

    assert (kept["unfreeze_from"], kept["early_stopping_patience"]) == (0, None)
    assert "mixup" not in kept
    assert "measured" not in kept["augmentation"]


def test_an_option_that_comes_later_and_is_off_leaves_cells_valid():
    before = TrainingSpec().model_dump(mode="json")
    after = before | {"new": 0.0, "augmentation": before["augmentation"] | {"n": False}}

    assert accuracy.leave_out_off(after, after) == accuracy.leave_out_off(
        before, before
    )
