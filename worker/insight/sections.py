"""The sections of forecast.json, each from what the subject's views show."""

from typing import Any

from shared.base_models import resolve_image_size_px
from shared.presets import build_training_spec
from shared.training_spec import TrainingSpec
from worker import events
from worker.insight import (
    class_gains,
    difficulty,
    leaderboard,
    learning_curve,
    timing,
)
from worker.insight.doctor.examination import Likeness
from worker.insight.presets import describe_preset, judge_probe
from worker.insight.resources import Costs
from worker.insight.subject import Subject, View
from worker.insight.timing import StepTiming
from worker.training.phase_setup import Material

_PHASE = "forecast"
# What begins a training on a worker with a trainer that stands by, seconds.
_START_SECONDS = 1.0
_MOST_MAKERS = 8


def build_difficulty(
    subject: Subject, view: View, likeness: Likeness
) -> dict[str, Any]:
    """Returns the section `difficulty`."""
    labels = subject.images.labels
    neighbour = difficulty.measure_nearest_neighbour(
        likeness.neighbours, labels, subject.rows
    )
    return difficulty.describe_difficulty(
        view.probed, labels, subject.images.classes, neighbour, subject.name_image
    )


def build_learning_curve(subject: Subject, view: View) -> dict[str, Any]:
    """Returns the section `learning_curve`."""
    labels, strength = subject.images.labels, view.probed.strength

    def report(done: int, total: int) -> None:
        events.progress(_PHASE, done, total, "probes")

    points = learning_curve.measure_points(
        view.reduced,
        labels,
        subject.rows,
        strength=strength,
        groups=subject.groups,
        report=report,
    )
    section = learning_curve.describe_curve(points, subject.sizes.train)
    gains = class_gains.measure_gains(
        view.reduced,
        labels,
        subject.rows,
        strength=strength,
        exponent=section["fit"]["c"],
        groups=subject.groups,
        report=report,
    )
    by_class = class_gains.describe_gains(gains, subject.images.classes)
    return section | {"by_class": by_class}


def build_base_models(subject: Subject) -> dict[str, Any]:
    """Returns the list `base_models` and the `winner`."""
    entries = []
    for name in subject.request.base_models:
        spec = build_training_spec("fast", {"base_model": name})
        view = subject.view(spec)
        with subject.booked("timing"):
            seconds = _time_pass(subject, view)
        size = resolve_image_size_px(name, spec.image_size_px)
        entries.append(leaderboard.Entry(name, size, view.probed, 1000 * seconds))
    labels = subject.images.labels
    return {
        "base_models": leaderboard.describe_base_models(entries, labels),
        "winner": leaderboard.choose_winner(entries, labels),
    }


def build_presets(subject: Subject) -> dict[str, Any]:
    """Returns the section `presets`: what is promised of each."""
    timed: dict[str, StepTiming | None] = {}
    section = {}
    for name, spec in subject.request.presets().items():
        view = subject.view(spec)
        steps = None
        if spec.fine_tune_epochs and subject.request.times_steps:
            key = _step_key(spec)
            if key not in timed:
                events.progress(_PHASE, len(timed), len(timed) + 1, "timed trainings")
                with subject.booked("timing"):
                    timed[key] = timing.time_steps(_material(subject, view, spec))
            steps = timed[key]
        with subject.booked("timing"):
            pass_seconds = _time_pass(subject, view)
        size = view.made.features.shape[1]
        costs = Costs(pass_seconds, size, steps, _find_start_seconds(subject))
        judged = judge_probe(
            view.probed, subject.images.labels, subject.images.splits["val"]
        )
        memory = steps.memory_bytes if steps else timing.find_peak_memory()
        section[name] = describe_preset(
            name,
            spec,
            judged=judged,
            sizes=subject.sizes,
            costs=costs,
            history=subject.request.history,
            memory_bytes=memory,
        )
    return section


def _time_pass(subject: Subject, view: View) -> float:
    made = view.made
    return timing.time_pass(
        made.pack, made.base, made.origin, subject.request.engines, subject.threads
    )


def _find_start_seconds(subject: Subject) -> float:
    """Run alone, a training imports the frameworks first, as this process did."""
    return _START_SECONDS if subject.request.job else subject.seconds["imports"]


def _material(subject: Subject, view: View, spec: TrainingSpec) -> Material:
    return Material(
        spec,
        view.made.pack,
        subject.request.weights_dirs,
        max(1, min(_MOST_MAKERS, subject.threads // 2)),
        download_weights=subject.request.download_weights,
    )


def _step_key(spec: TrainingSpec) -> str:
    """Presets that differ in the number of epochs alone have steps alike."""
    changed = {"frozen_epochs": 1, "fine_tune_epochs": 1}
    return spec.model_copy(update=changed).model_dump_json()
