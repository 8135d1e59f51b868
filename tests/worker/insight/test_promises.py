from dataclasses import replace

import numpy as np
import pytest

from shared.presets import PRESETS, build_training_spec
from worker.insight.cross_validation import Probed
from worker.insight.leaderboard import Entry, choose_winner, describe_base_models
from worker.insight.preset_accuracy import Experience, foresee
from worker.insight.presets import Judged, describe_preset, judge_probe, promise
from worker.insight.probe import Recipe
from worker.insight.resources import (
    Costs,
    Sizes,
    correct_seconds,
    reckon_disk,
    reckon_seconds,
)
from worker.insight.step_timing import CannotTime, StepTiming

SIZES = Sizes(train=1700, val=260, test=650)
STEPS = StepTiming(20.0, 2.0, 0.05, 0.3, 3 << 30)


def _experience(probe: float, delivered: float, **more) -> Experience:
    return Experience(probe, 2000, delivered, 600, **more)


def _foresee(probe: float = 0.85, finished=(), **more):
    sizes = {"probe_images": 2000, "test_images": 650} | more
    return foresee("balanced", probe, finished=finished, **sizes)


def test_finished_trainings_move_the_range_to_what_they_gained():
    gained = [_experience(0.8, 0.9), _experience(0.7, 0.83), _experience(0.9, 0.95)]
    nothing = [_experience(0.8, 0.8), _experience(0.7, 0.7), _experience(0.9, 0.9)]

    high, low = _foresee(finished=gained), _foresee(finished=nothing)

    assert high.middle > low.middle + 0.03
    assert high.trainings == 3


def test_the_more_trainings_agree_the_narrower_the_range():
    alike = [_experience(p, p + 0.02) for p in (0.7, 0.75, 0.8, 0.85, 0.9)]

    few, many = _foresee(finished=alike[:1]), _foresee(finished=alike * 4)

    assert many.high - many.low < few.high - few.low
    assert many.high - many.low < 0.1


@pytest.mark.parametrize("test_images", [0.5, 1.0])
def test_a_few_pictures_may_reach_anything_but_never_nothing(test_images):
    found = _foresee(0.8, probe_images=3, test_images=test_images)

    assert 0 == found.low < found.middle < found.high == 1


def test_many_trainings_on_one_dataset_say_little_more_than_one():
    one = _foresee(finished=[_experience(0.8, 0.85, dataset=1)])
    many = _foresee(finished=[_experience(0.8, 0.85, dataset=1)] * 100)
    apart = _foresee(finished=[_experience(0.8, 0.85, dataset=n) for n in range(100)])

    assert many.high - many.low == pytest.approx(one.high - one.low)
    assert many.middle == pytest.approx(one.middle)
    assert (many.trainings, many.datasets, apart.datasets) == (100, 1, 100)
    assert apart.high - apart.low < many.high - many.low


def test_a_small_test_split_widens_the_range():
    small, large = _foresee(test_images=50), _foresee(test_images=5000)

    assert small.high - small.low > 1.5 * (large.high - large.low)


def test_a_perfect_probe_promises_no_more_than_everything():
    expected = _foresee(1.0)

    assert 0.97 < expected.low < expected.middle < expected.high <= 1


def test_ranges_hold_what_drawn_trainings_deliver():
    random = np.random.default_rng(3)

    def draw(gain: float) -> Experience:
        truth = random.uniform(0.6, 0.95)
        odds = np.log(truth / (1 - truth)) + random.normal(gain, 0.15)
        return _experience(
            random.binomial(2000, truth) / 2000,
            random.binomial(600, 1 / (1 + np.exp(-odds))) / 600,
        )

    held = []
    for _ in range(300):
        finished, new = [draw(0.4) for _ in range(5)], draw(0.4)
        expected = _foresee(new.probe, finished, test_images=600)
        held.append(expected.low <= new.delivered <= expected.high)

    assert np.mean(held) > 0.9


def test_a_tiny_test_split_neither_moves_nor_narrows_what_others_are_promised():
    """Ninety of a hundred that were expected, of twenty pictures: that is chance."""
    tiny = Experience(0.85, 80, 0.9, 20, dataset=1)
    large = Experience(0.85, 2000, 0.9, 2000, dataset=1)

    first, after_tiny, after_large = (
        _foresee(finished=finished) for finished in ((), (tiny,), (large,))
    )

    width = first.high - first.low
    assert after_tiny.high - after_tiny.low > 0.9 * width
    assert abs(after_tiny.middle - first.middle) < 0.005
    assert after_large.middle > first.middle + 0.005


def test_pictures_of_few_patients_promise_less_than_as_many_patients():
    labels, val, test = np.zeros(2000, int), np.arange(1700, 2000), np.arange(2000)
    patients = np.arange(2000) // 100
    right = patients % 4 > 0  # of five patients nothing is told right

    alone = judge_probe(_probe_of(right), labels, val)
    grouped = judge_probe(_probe_of(right), labels, val, groups=patients, test=test)

    assert alone.design_effect == alone.test_design_effect == 1
    # Each patient is one observation: 20 of them in place of 2,000 pictures.
    assert grouped.design_effect == pytest.approx(2000 / 19, rel=0.01)
    assert grouped.test_design_effect == pytest.approx(grouped.design_effect)
    widths = {}
    for name, judged in (("alone", alone), ("grouped", grouped)):
        told = describe_preset(
            "fast",
            build_training_spec("fast"),
            judged=judged,
            sizes=SIZES,
            costs=Costs(0.01, 1280, None, 2.0),
            history=[],
            memory_bytes=1,
        )
        low, _, high = told["accuracy"]
        widths[name] = high - low
    assert widths["grouped"] > 2 * widths["alone"]


def _probe_of(right: np.ndarray) -> Probed:
    told = np.zeros((len(right), 2), np.float32)
    told[np.arange(len(right)), np.where(right, 0, 1)] = 1
    return Probed(np.arange(len(right)), told, Recipe(1.0))


def test_wrong_labels_in_the_training_split_are_not_held_against_the_probe():
    labels, val = np.zeros(2000, int), np.arange(1700, 2000)
    right = np.arange(2000) % 10 < 7  # 70 %
    right[val] = np.arange(300) % 10 < 9

    judged = judge_probe(_probe_of(right), labels, val)

    assert judged == Judged(0.9, 300, True)


def test_a_validation_split_that_is_a_little_easier_is_chance():
    labels, val = np.zeros(2000, int), np.arange(1700, 2000)
    right = np.arange(2000) % 100 < 85
    right[val] = np.arange(300) % 100 < 88

    judged = judge_probe(_probe_of(right), labels, val)

    assert judged.images == 2000
    assert not judged.doubts_training


def test_minutes_grow_with_steps_and_pictures():
    spec = build_training_spec("balanced")
    costs = Costs(0.01, 3328, STEPS, 2.0)

    _, likely, _ = reckon_seconds(spec, SIZES, costs)
    _, twice, _ = reckon_seconds(spec, Sizes(3400, 520, 1300), costs)

    # 6 epochs of 54 steps of 2 s, and what is around them.
    assert 648 < likely < 900
    assert 1.7 < twice / likely < 2.1


def test_what_is_likely_is_wrong_by_the_same_share_wherever_a_training_stops():
    costs = Costs(0.01, 3328, STEPS, 2.0)

    short, likely, long = reckon_seconds(build_training_spec("best"), SIZES, costs)

    assert long > 1.3 * short  # it may stop early
    assert likely / short - 1 == pytest.approx(1 - likely / long)


def test_a_step_that_is_compiled_costs_what_the_choice_took_and_once():
    spec, chosen = build_training_spec("balanced"), replace(STEPS, choice_seconds=45.0)

    plain, compiled = (
        reckon_seconds(spec, SIZES, Costs(0.01, 3328, steps, 2.0))
        for steps in (STEPS, chosen)
    )

    assert np.subtract(compiled, plain) == pytest.approx(45.0)


def test_the_regression_is_reckoned_for_the_pictures_that_it_fits():
    """Of large sets it draws as many as its memory holds."""
    spec, costs = build_training_spec("balanced"), Costs(0.0, 3328, None, 0.0)

    def reckon(train: int) -> float:
        return reckon_seconds(spec, Sizes(train, 1000, 1000, classes=1000), costs)[1]

    assert reckon(40_000) < 1.5 * reckon(20_000)


def test_early_stopping_gives_a_range_of_epochs_only_where_it_may_stop():
    costs = Costs(0.01, 3328, STEPS, 2.0)

    short, _, long = reckon_seconds(build_training_spec("best"), SIZES, costs)
    sure = reckon_seconds(build_training_spec("balanced"), SIZES, costs)

    assert long > 1.5 * short
    assert sure[0] == sure[2]


def test_finished_trainings_correct_the_seconds():
    reckoned = (100.0, 100.0, 100.0)

    none = correct_seconds(reckoned, [])
    some = correct_seconds(reckoned, [1.5, 1.5, 1.5, 1.5, 1.5, 1.5])

    assert none[1] == 100
    assert 130 < some[1] < 150
    assert some[2] / some[0] < none[2] / none[0]


def test_the_disk_of_a_fine_tuning_holds_pack_views_and_checkpoints():
    disk = reckon_disk(build_training_spec("balanced"), SIZES, 3328)

    assert disk["pack"] == 2610 * 300 * 300 * 3
    assert disk["features"] == (2610 + 2 * 1700) * 3328 * 4
    assert disk["total"] == disk["pack"] + disk["features"] + disk["checkpoints"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gets_ranges_that_hold_their_middle(name):
    costs = Costs(0.01, 1280, None if name == "fast" else STEPS, 2.0)

    told = describe_preset(
        name,
        build_training_spec(name),
        judged=Judged(0.85, 2000, False),
        sizes=SIZES,
        costs=costs,
        history=[{"preset": name, "promised": None, "accuracy": 0.9}],
        memory_bytes=1,
    )

    for low, middle, high in (told["accuracy"], told["seconds"]):
        assert low < middle < high
    assert "no training has finished yet" in told["sentence"]


def test_what_cannot_be_trained_here_gets_no_minutes():
    told = describe_preset(
        "best",
        build_training_spec("best"),
        judged=Judged(0.85, 2000, False),
        sizes=SIZES,
        costs=Costs(0.01, 1280, None, 2.0),
        history=[],
        memory_bytes=1,
        obstacle=CannotTime("it does not fit"),
    )

    assert told["seconds"] is None
    assert told["memory_bytes"] is None
    assert told["accuracy"][0] < told["accuracy"][2]
    assert told["sentence"].endswith("but not here: it does not fit.")


def _entry(name: str, right: np.ndarray, seconds: float) -> Entry:
    return Entry(name, 224, right, seconds)


def test_the_winner_is_the_cheapest_of_those_that_none_beats():
    plain = np.arange(1000) < 850
    noise = np.arange(1000) < 852
    better = np.arange(1000) < 910

    close = [_entry("MobileNet", plain, 5.0), _entry("EfficientNetLite0", noise, 9.0)]
    apart = [_entry("MobileNet", plain, 5.0), _entry("EfficientNetLite0", better, 9.0)]

    assert choose_winner(close) == "MobileNet"
    assert choose_winner(apart) == "EfficientNetLite0"
    rows = describe_base_models(apart)
    assert [row["is_winner"] for row in rows] == [True, False]


def test_what_one_patient_decides_makes_no_winner():
    plain = np.arange(1000) % 20 > 2
    better = plain | (np.arange(1000) < 100)  # fifteen more, all of two patients
    entries = [_entry("MobileNet", plain, 5.0), _entry("ResNet50", better, 9.0)]

    assert choose_winner(entries) == "ResNet50"
    assert choose_winner(entries, np.arange(1000)) == "ResNet50"
    assert choose_winner(entries, np.arange(1000) // 50) == "MobileNet"


def test_a_base_model_that_any_other_beats_is_no_winner():
    cheap = np.arange(1000) < 800
    above = np.arange(1000) < 806  # and never wrong where the cheap one is right
    best = (np.arange(1000) >= 40) & (np.arange(1000) < 850)  # above by chance alone
    entries = [
        _entry("MobileNet", cheap, 5.0),
        _entry("EfficientNetLite0", above, 7.0),
        _entry("ResNet50", best, 9.0),
    ]

    assert choose_winner([entries[0], entries[2]]) == "MobileNet"
    assert choose_winner(entries) == "EfficientNetLite0"


def test_what_tells_fewer_pictures_right_beats_nothing():
    pictures = np.arange(600)
    groups = np.where(pictures < 60, 0, pictures)
    worse = pictures != 100
    worse[:40] = False  # of one group
    better = np.ones(600, bool)
    better[200:212] = False
    entries = [_entry("MobileNet", better, 5.0), _entry("ResNet50", worse, 9.0)]

    assert better.mean() > worse.mean()
    assert choose_winner(entries, groups) == "MobileNet"


@pytest.mark.parametrize(
    ("taken", "times"), [(100, 1), (150, 1), (200, 1), (80, 0.8), (300, 1.5)]
)
def test_a_training_that_ended_between_its_ends_corrects_nothing(taken, times):
    reckoned = [100.0, 400 / 3, 200.0]
    job = {"promised": {"reckoned_seconds": reckoned}, "running_seconds": taken}
    facts = {
        "probe": {"accuracy": 0.8, "independent_images": 1000},
        "test": {"independent_images": 300},
        "reckoned_seconds": reckoned,
        "step_deviation": 0.0,
    }

    _, likely, _ = promise("best", facts, [job | {"preset": "best"}] * 98)["seconds"]

    assert likely == pytest.approx(reckoned[1] * times, rel=0.02)


def test_all_test_pictures_right_are_within_a_range_that_ends_there():
    finished = [Experience(1.0, 300, 1.0, 60)] * 3
    expected = foresee("fast", 1.0, probe_images=300, test_images=60, finished=finished)

    assert expected.high == 1.0
    assert expected.middle < 1.0


def test_a_doubt_beyond_all_bounds_promises_no_time_below_zero():
    short, likely, long = correct_seconds((600.0, 900.0, 1200.0), [], 0.9)

    assert 0 < short < likely < long


def test_what_could_not_be_timed_teaches_nothing_about_minutes():
    job = {
        "preset": "best",
        "running_seconds": 1500.0,
        "promised": {"reckoned_seconds": [100.0, 100.0, 100.0]},
    }
    told = {}
    for name, obstacle in (("timed", None), ("not", "it does not fit")):
        history = [job | {"promised": job["promised"] | {"obstacle": obstacle}}]
        facts = {
            "probe": {"accuracy": 0.8, "independent_images": 1000},
            "test": {"independent_images": 300},
            "reckoned_seconds": [60.0, 60.0, 60.0],
            "step_deviation": 0.0,
        }
        told[name] = promise("best", facts, history)

    assert told["timed"]["seconds"][1] > 100
    assert told["not"]["seconds"][1] == pytest.approx(60)
