from dataclasses import asdict

import pytest

from benchmarks import forecast
from benchmarks.forecast import Measured, Row
from shared.presets import build_training_spec
from worker.insight.resources import Costs, Sizes, reckon_memory, reckon_seconds
from worker.insight.step_timing import StepTiming

QUIET, BUSY = {"load": [0.5, 2.0]}, {"load": [0.5, 9.0]}


def _forecast(probe: float) -> dict:
    preset = {
        "probe": {"accuracy": probe, "independent_images": 2000},
        "test": {"independent_images": 600},
        "reckoned_seconds": [90.0, 100.0, 110.0],
        "step_deviation": 0.0,
        "obstacle": None,
        "memory_bytes": 1100,
    }
    presets = {"balanced": preset}
    return {"presets": presets, "measured": QUIET, "classes": ["a", "b"]}


def _task(probe: float, delivered: float, measured=QUIET) -> Measured:
    values = {
        "accuracy": delivered,
        "images": {"train": 1700, "val": 300, "test": 600},
        "seconds": {"fine_tune": 80.0, "export": 20.0},
        "measured": measured,
        "peak_bytes": 1000,
        "promised": _forecast(probe)["presets"]["balanced"] | {"measured": QUIET},
    }
    half = {"error_points": 1.0, "interval": [0.7, 0.9], "reached": 0.8}
    return Measured(_forecast(probe), {"balanced": values}, half)


def test_a_task_is_not_promised_what_it_has_delivered_itself():
    alone = {"one": _task(0.8, 0.99)}
    others = alone | {"two": _task(0.8, 0.81), "three": _task(0.7, 0.71)}

    without = forecast.judge(alone)[0]
    with_others = forecast.judge(others)[0]

    assert without.middle < 0.9
    assert with_others.middle < without.middle


def test_busy_cells_say_nothing_of_minutes():
    measured = {"one": _task(0.8, 0.83), "two": _task(0.8, 0.84, BUSY)}

    rows = forecast.judge(measured)
    summary = forecast.summarise(rows, measured)

    assert [row.is_quiet for row in rows] == [True, False]
    assert summary["minutes_error"]["cells"] == 1
    assert summary["minutes_error"]["worst"] == pytest.approx(0.0, abs=0.01)


def test_minutes_are_those_promised_on_the_machine_that_trained():
    here, elsewhere, unknown = (_task(0.8, 0.83) for _ in range(3))
    for other in (elsewhere, unknown):
        other.forecast["presets"]["balanced"]["reckoned_seconds"] = [9.0, 10.0, 11.0]
    del unknown.delivered["balanced"]["promised"]
    measured = {"here": here, "elsewhere": elsewhere, "unknown": unknown}

    rows = {row.task: row for row in forecast.judge(measured)}

    assert rows["elsewhere"].seconds == pytest.approx(100, rel=0.01)
    assert [row.is_quiet for row in rows.values()] == [True, True, False]


def test_minutes_and_memory_are_made_by_the_rules_of_now_of_what_was_timed_then():
    one, plain = _task(0.8, 0.83), _task(0.8, 0.83)
    steps = StepTiming(20.0, 1.0, 0.05, 0.3, 10**9)
    costs = Costs(0.01, 1280, steps, 2.0)
    one.delivered["balanced"]["promised"]["costs"] = asdict(costs)

    (row,), (kept,) = (forecast.judge({"one": task}) for task in (one, plain))

    spec = build_training_spec("balanced")
    likely = reckon_seconds(spec, Sizes(1700, 300, 600, classes=2), costs)[1]
    assert row.seconds == pytest.approx(likely, rel=0.01)
    assert row.memory_error == pytest.approx(reckon_memory(spec, steps) / 1000 - 1)
    assert kept.seconds == pytest.approx(100, rel=0.01)


def test_what_could_not_be_trained_has_a_row_without_minutes(capsys):
    one = _task(0.8, 0.83)
    one.delivered["balanced"]["promised"]["obstacle"] = "it does not fit"
    measured = {"one": one, "two": _task(0.8, 0.83)}

    rows = forecast.judge(measured)
    summary = forecast.summarise(rows, measured)
    forecast.print_table(rows, summary)

    assert (rows[0].seconds, rows[0].seconds_error) == (None, None)
    assert summary["minutes_error"]["cells"] == 1
    assert "  -" in capsys.readouterr().out.splitlines()[1]


def test_a_training_that_was_stopped_and_went_on_says_nothing_of_minutes():
    one = _task(0.8, 0.83)
    one.delivered["balanced"]["was_resumed"] = True

    (row,) = forecast.judge({"one": one})

    assert not row.is_quiet


def test_what_others_took_of_the_cores_decides_where_it_is_known():
    calm = {"load": [0.5, 9.0], "others": 0.01}
    disturbed = {"load": [0.5, 2.0], "others": 0.2}
    measured = {
        "one": _task(0.8, 0.83, calm),
        "two": _task(0.8, 0.84, disturbed),
    }

    rows = forecast.judge(measured)

    assert [row.is_quiet for row in rows] == [True, False]
    assert rows[0].memory_error == pytest.approx(0.1)


def test_tasks_of_the_same_pictures_say_nothing_where_it_is_strict():
    measured = {
        "elpv": _task(0.8, 0.85),
        "elpv-grades": _task(0.8, 0.99),
        "trashnet": _task(0.8, 0.85),
    }

    plain, strict = (
        forecast.judge(measured, is_strict=is_strict)[0] for is_strict in (False, True)
    )

    assert strict.middle < plain.middle
    assert set(forecast.summarise([plain], measured)["strict"]) == {
        "coverage",
        "width_points",
    }


def test_the_figures_and_the_bars_they_miss():
    def row(low: float, high: float, delivered: float, seconds: float) -> Row:
        return Row(
            task="t",
            preset="fast",
            low=low,
            middle=0.8,
            high=high,
            delivered=delivered,
            seconds=seconds,
            delivered_seconds=100.0,
            is_quiet=True,
            memory_error=0.1,
        )

    measured = {"t": _task(0.8, 0.8)}
    good = forecast.summarise([row(0.78, 0.84, 0.8, 105)] * 2, measured)
    bad = forecast.summarise(
        [row(0.7, 0.9, 0.95, 140), row(0.7, 0.9, 0.8, 130)], measured
    )

    assert forecast.list_missed(good) == []
    assert bad["coverage"] == 0.5
    assert bad["width_points"] == pytest.approx(20)
    assert bad["minutes_error"]["worst"] == pytest.approx(0.4)
    assert [line.split()[0] for line in forecast.list_missed(bad)] == [
        "coverage",
        "mean",
        "minutes,",
        "minutes,",
    ]
