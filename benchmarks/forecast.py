"""Measures whether forecasts keep what they promise.

Six tasks (`forecast_tasks.py`), each forecast by the real child process before anything
is trained on it, then trained with every preset as it is. What a task is promised rests
on its own forecast and on the finished trainings of the five others, never on its own:

    coverage        share of the ranges of accuracy that hold what was delivered
    width_points    their mean width, percentage points
    strict          the same two where a task is promised nothing by trainings on any of
                    its pictures, in whichever classes: three tasks share theirs
    minutes_error   what the likely minutes were off by: `median` and `worst`, of cells
                    measured while nothing else ran, on the machine that was forecast;
                    steps were timed there, and the rules of now make minutes of them
    curve_points    what the learning curve, fitted on half of the data, was off by for
                    all of it, in points, by task
    curve_coverage  share of those curves whose 95 % interval held it

The bars: coverage 90 %, width at most 8 points, minutes 10 % off at the median and 25 %
at worst, at least three curves within 2 points. Cells take minutes to hours; finished
ones are kept under `benchmarks/results/forecast/` and a training that was stopped goes
on from its checkpoint. Exits 1 when a bar is missed.

    ./trainyard bench forecast [--tasks NAME ...] [--presets NAME ...] [--data PATH]
        [--again-if-busy] [--json]
"""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import accuracy, cells
from benchmarks.children import run_child
from benchmarks.delivered import deliver, digest_version, reckon_again
from benchmarks.forecast_tasks import TASKS, Task, open_task, task_of
from benchmarks.half_curve import measure_half
from shared.presets import PRESETS
from worker.insight.presets import promise

BAR_COVERAGE, BAR_WIDTH = 0.9, 8.0
BAR_MEDIAN, BAR_WORST = 0.10, 0.25
BAR_CURVE_POINTS, BAR_CURVES = 2.0, 3
# One-minute load of a machine with two cores on which nothing but the cell runs.
QUIET_LOAD = 2.6
# Where it is known what others took of the cores' time, that much is too little to be
# noticed.
QUIET_SHARE = 0.05
_OF_THE_MACHINE = ("reckoned_seconds", "step_deviation", "obstacle", "memory_bytes")


@dataclass(frozen=True)
class Measured:
    """What is known of one task.

    Args:
        forecast: forecast.json, made without any history.
        delivered: Of each preset.
        half: What the curve fitted on half of the data said of all of it.
    """

    forecast: dict[str, Any]
    delivered: dict[str, dict[str, Any]]
    half: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One promise and what came of it; accuracies 0 to 1.

    Without `seconds` it could not be trained where it was forecast.
    """

    task: str
    preset: str
    low: float
    middle: float
    high: float
    delivered: float
    seconds: float | None
    delivered_seconds: float
    is_quiet: bool
    memory_error: float | None

    @property
    def holds(self) -> bool:
        """Whether the range contains what was delivered."""
        return self.low <= self.delivered <= self.high

    @property
    def seconds_error(self) -> float | None:
        """What the likely duration was off by, as a share of the real one."""
        if self.seconds is None:
            return None
        return abs(self.seconds - self.delivered_seconds) / self.delivered_seconds


def measure(task: Task, presets: Sequence[str], *, again_if_busy: bool) -> Measured:
    """Forecasts one task, trains it, and fits a curve on half of it."""
    kept = cells.Cells("forecast", accuracy.describe_code())
    work = cells.RESULTS / "forecast" / "work"
    version = open_task(task, work / f"{task.name}-dataset")
    caches = work / f"{task.name}-caches"
    facts = {**task.facts, "version": digest_version(version)}
    code = cells.digest_sources("worker/insight")

    forecast = kept.measure(
        f"{task.name} forecast",
        facts | {"code": code, "machine": cells.describe_machine()},
        lambda: _forecast(version, caches, work / f"{task.name}-forecast"),
        again_if=lambda values: again_if_busy and not _is_quiet(values),
    )
    half = kept.measure(
        f"{task.name} half",
        facts | {"code": code},
        lambda: measure_half(version, caches),
    )
    delivered = {
        preset: deliver(
            kept,
            task,
            preset,
            version,
            work,
            promised=forecast["presets"][preset] | {"measured": forecast["measured"]},
            again_if=lambda values: again_if_busy and not _tells_minutes(values),
        )
        for preset in presets
    }
    return Measured(forecast, delivered, half)


def judge(measured: dict[str, Measured], *, is_strict: bool = False) -> list[Row]:
    """Returns every promise, each made without its own task's trainings.

    Args:
        measured: By task.
        is_strict: Whether to leave out those of all tasks with the same pictures.
    """
    rows = []
    for name, one in measured.items():
        others = [
            job
            for other, two in measured.items()
            if other != name and not (is_strict and _share_pictures(name, other))
            for job in _list_history(other, two)
        ]
        for preset, values in one.delivered.items():
            told = promise(preset, _tell_promised(one, preset), others)
            low, middle, high = told["accuracy"]
            rows.append(
                Row(
                    task=name,
                    preset=preset,
                    low=low,
                    middle=middle,
                    high=high,
                    delivered=values["accuracy"],
                    seconds=told["seconds"][1] if told["seconds"] else None,
                    delivered_seconds=_total(values),
                    is_quiet=_tells_minutes(values),
                    memory_error=_compare_memory(_tell_promised(one, preset), values),
                )
            )
    return rows


def summarise(rows: Sequence[Row], measured: dict[str, Measured]) -> dict[str, Any]:
    """Returns the figures that the bars are about, and every row."""
    errors = [
        error
        for row in rows
        if row.is_quiet and (error := row.seconds_error) is not None
    ]
    memory = [row.memory_error for row in rows if row.memory_error is not None]
    return _measure_ranges(rows) | {
        "strict": _measure_ranges(judge(measured, is_strict=True)),
        "memory_error": {
            "median": statistics.median(memory) if memory else None,
            "worst": max(memory, default=None),
        },
        "minutes_error": {
            "median": statistics.median(errors) if errors else None,
            "worst": max(errors) if errors else None,
            "cells": len(errors),
        },
        "curve_points": {
            name: one.half["error_points"] for name, one in measured.items()
        },
        "curve_coverage": statistics.mean(
            one.half["interval"][0] <= one.half["reached"] <= one.half["interval"][1]
            for one in measured.values()
        ),
        "rows": [vars(row) | {"holds": row.holds} for row in rows],
    }


def _measure_ranges(rows: Sequence[Row]) -> dict[str, float]:
    return {
        "coverage": statistics.mean(row.holds for row in rows),
        "width_points": 100 * statistics.mean(row.high - row.low for row in rows),
    }


def _share_pictures(one: str, other: str) -> bool:
    known = TASKS.get(one), TASKS.get(other)
    return None not in known and len({task.pictures for task in known if task}) == 1


def list_missed(summary: dict[str, Any]) -> list[str]:
    """Names every bar that the figures fall short of."""
    missed = []
    if summary["coverage"] < BAR_COVERAGE:
        missed.append(f"coverage {summary['coverage']:.0%}, wanted {BAR_COVERAGE:.0%}")
    if summary["width_points"] > BAR_WIDTH:
        missed.append(
            f"mean width {summary['width_points']:.1f} points, wanted {BAR_WIDTH:.0f}"
        )
    for name, bar in (("median", BAR_MEDIAN), ("worst", BAR_WORST)):
        error = summary["minutes_error"][name]
        if error is None or error > bar:
            told = "not measured" if error is None else f"{error:.0%} off"
            missed.append(f"minutes, {name}: {told}, wanted {bar:.0%}")
    near = sum(e <= BAR_CURVE_POINTS for e in summary["curve_points"].values())
    if near < min(BAR_CURVES, len(summary["curve_points"])):
        missed.append(f"{near} learning curves within {BAR_CURVE_POINTS:.0f} points")
    return missed


def print_table(rows: Sequence[Row], summary: dict[str, Any]) -> None:
    """Prints one line per promise and the figures."""
    print(
        f"{'task':15} {'preset':9} {'promised':>17} {'delivered':>9} "
        f"{'width':>6} {'minutes':>8} {'taken':>6} {'off':>5}"
    )
    for row in rows:
        mark = " " if row.holds else "!"
        minutes = "-" if row.seconds is None else f"{row.seconds / 60:.1f}"
        off = "-" if row.seconds_error is None else f"{row.seconds_error:.0%}"
        busy = "" if row.is_quiet else " (busy)"
        print(
            f"{row.task:15} {row.preset:9} {row.low:7.1%} - {row.high:6.1%} "
            f"{row.delivered:8.1%}{mark} {100 * (row.high - row.low):6.1f} "
            f"{minutes:>8} {row.delivered_seconds / 60:6.1f} {off:>5}{busy}"
        )
    minutes = summary["minutes_error"]
    print(
        f"coverage {summary['coverage']:.1%}, mean width "
        f"{summary['width_points']:.1f} points"
    )
    if minutes["cells"]:
        print(
            f"minutes off by {minutes['median']:.0%} (median) and "
            f"{minutes['worst']:.0%} (worst) in {minutes['cells']} quiet cells"
        )
    strict = summary["strict"]
    print(
        f"knowing nothing of the same pictures: coverage {strict['coverage']:.1%}, "
        f"mean width {strict['width_points']:.1f} points"
    )
    if summary["memory_error"]["median"] is not None:
        print(
            f"memory off by {summary['memory_error']['median']:.0%} (median) and "
            f"{summary['memory_error']['worst']:.0%} (worst)"
        )
    for name, points in summary["curve_points"].items():
        print(f"{name}: the curve of half the data was off by {points:.1f} points")
    print(f"{summary['curve_coverage']:.0%} of these curves' intervals held it")


def _forecast(version: Path, caches: Path, folder: Path) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)  # each is an attempt of its own
    spec = {"kind": "forecast", "dataset": str(version), "caches": str(caches)}
    finished = run_child("worker.insight.run", spec, folder)
    return json.loads((Path(finished["path"]) / "forecast.json").read_text())


def _list_history(task: str, one: Measured) -> list[dict[str, Any]]:
    return [
        {
            "dataset_id": task,
            "preset": preset,
            "accuracy": values["accuracy"],
            "images": values["images"],
            "promised": _tell_promised(one, preset),
            "running_seconds": _total(values) if _tells_minutes(values) else None,
        }
        for preset, values in one.delivered.items()
    ]


def _tell_promised(one: Measured, preset: str) -> dict[str, Any]:
    """Returns what is promised before any experience.

    Accuracy by the newest forecast; seconds and memory by what was timed on the machine
    that trained, just before.
    """
    newest = one.forecast["presets"][preset]
    before = one.delivered[preset].get("promised", newest)
    there = {name: before[name] for name in _OF_THE_MACHINE}
    classes = len(one.forecast["classes"])
    return newest | there | reckon_again(preset, one.delivered[preset], classes)


def _compare_memory(promised: dict[str, Any], values: dict[str, Any]) -> float | None:
    """What the promised memory was off by, as a share of the real peak."""
    told, peak = promised["memory_bytes"], values.get("peak_bytes")
    return abs(told - peak) / peak if told and peak else None


def _total(values: dict[str, Any]) -> float:
    return float(sum(values["seconds"].values()))


def _tells_minutes(values: dict[str, Any]) -> bool:
    promised = values.get("promised")
    if promised is None or values.get("was_resumed"):
        return False  # of a part of it nobody knows what ran beside it
    return _is_quiet(values) and _is_quiet(promised)


def _is_quiet(values: dict[str, Any]) -> bool:
    measured = values["measured"]
    if "others" in measured:
        return measured["others"] <= QUIET_SHARE
    return max(measured["load"]) <= QUIET_LOAD


def main() -> int:
    """Reads the arguments, measures what is not kept yet, prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument(
        "--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS)
    )
    parser.add_argument("--data", type=Path, help="a folder or zip of class folders")
    parser.add_argument("--again-if-busy", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    names = [task_of(arguments.data)] if arguments.data else []
    tasks = names or [TASKS[name] for name in arguments.tasks]
    measured = {
        task.name: measure(
            task, arguments.presets, again_if_busy=arguments.again_if_busy
        )
        for task in tasks
    }
    rows = judge(measured)
    summary = summarise(rows, measured)
    missed = list_missed(summary)
    if arguments.json:
        print(json.dumps(summary | {"missed": missed}))
    else:
        print_table(rows, summary)
        print("\n".join(missed) or "No bar is missed.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
