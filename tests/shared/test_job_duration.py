"""How long jobs will take, from finished ones."""

import pytest

from shared.job_duration import Durations, Finished, Work, measure_work
from shared.presets import build_training_spec


def training(images=1000, worker=1, seconds=None, base="EfficientNetLite0", size=224):
    work = Work("train", base, size, images)
    return work if seconds is None else Finished(work, worker, seconds)


def test_without_finished_jobs_nobody_can_tell():
    assert Durations([]).estimate(training()) is None
    assert Durations([training(seconds=60)]).estimate(None) is None
    assert Durations([training(seconds=60)]).estimate(Work("ingest")) is None


def test_a_job_like_a_finished_one_takes_as_long():
    known = [training(seconds=s) for s in (58, 60, 200)]

    assert Durations(known).estimate(training()) == pytest.approx(60)


def test_time_grows_with_cost_while_only_one_size_is_known():
    known = Durations([training(1000, seconds=60)])

    assert known.estimate(training(2000)) == pytest.approx(120)


def test_a_start_that_every_job_pays_is_learned_from_two_sizes():
    known = [training(n, seconds=20 + n / 50) for n in (500, 1000, 4000)]

    assert Durations(known).estimate(training(10_000)) == pytest.approx(220)


def test_a_line_that_falls_or_starts_below_nothing_is_not_believed():
    known = [training(1000, seconds=100), training(4000, seconds=90)]
    assert Durations(known).estimate(training(2000)) == pytest.approx(122.5)

    known = [training(1000, seconds=10), training(4000, seconds=400)]
    assert Durations(known).estimate(training(100)) > 0


def test_the_closest_likeness_counts():
    known = Durations(
        [
            training(seconds=60),
            training(seconds=100, size=448),
            training(seconds=900, base="ResNet50"),
        ]
    )

    assert known.estimate(training()) == pytest.approx(60)
    assert known.estimate(training(base="ResNet50")) == pytest.approx(900)
    other_size = known.estimate(training(size=112))
    assert 0 < other_size < 60
    larger = known.estimate(training(base="ResNet152"))
    smaller = known.estimate(training(base="MobileNet-0.25"))
    assert smaller < larger


def test_the_same_workers_jobs_come_before_those_of_others():
    known = Durations([training(seconds=60, worker=1), training(seconds=600, worker=2)])

    assert known.estimate(training(), 1) == pytest.approx(60)
    assert known.estimate(training(), 2) == pytest.approx(600)
    assert known.estimate(training(), 3) == pytest.approx(330)


def test_the_newest_jobs_count():
    known = [training(seconds=50)] * 30 + [training(seconds=500)] * 300

    assert Durations(known).estimate(training()) == pytest.approx(50)


def spec(preset, **changes):
    return {"training": build_training_spec(preset, changes).model_dump(mode="json")}


def test_work_is_counted_in_passes_through_the_base():
    plain = measure_work("train", spec("fast"), 1000)
    tuned = measure_work("train", spec("fast", fine_tune_epochs=2), 1000)
    scratch = {"weights": "random", "frozen_epochs": 0, "fine_tune_epochs": 1}
    no_views = measure_work("train", spec("fast", **scratch), 1000)

    assert plain == Work("train", "EfficientNetLite0", 224, 2000)
    assert tuned.cost == 1000 * (2 + 3 * 2)
    assert no_views.cost == 1000 * (1 + 3)


def test_of_unknown_networks_and_empty_datasets_nothing_is_told():
    assert measure_work("train", {"training": {"base_model": "Gone"}}, 10) is None
    assert measure_work("train", {}, 10) is None
    assert measure_work("train", spec("fast"), None) is None
    assert measure_work("ingest", {}, None) == Work("ingest")
