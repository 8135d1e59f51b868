"""The sections of forecast.json, each from what the subject's views show."""

from dataclasses import replace
from typing import Any

from shared.base_models import resolve_image_size_px
from shared.errors import RetryableError, UserError
from worker import events
from worker.insight import (
    class_gains,
    difficulty,
    leaderboard,
    learning_curve,
    timing,
)
from worker.insight.cross_validation import Probed
from worker.insight.doctor.examination import Likeness
from worker.insight.passes import Pass
from worker.insight.preset_steps import Timed
from worker.insight.presets import (
    Judged,
    describe_doubt_of_labels,
    describe_preset,
    judge_probe,
)
from worker.insight.resources import Costs, reckon_memory
from worker.insight.step_timing import CannotTime
from worker.insight.subject import Subject, View
from worker.training import failures

_PHASE = "forecast"
# What begins a training on a worker with a trainer that stands by, seconds.
_START_SECONDS = 1.0


def build_difficulty(
    subject: Subject, view: View, likeness: Likeness
) -> dict[str, Any]:
    """Returns the section `difficulty`."""
    labels = subject.images.labels
    neighbour = difficulty.measure_nearest_neighbour(
        likeness, labels, subject.rows, groups=subject.groups
    )
    told = difficulty.describe_difficulty(
        view.probed,
        labels,
        subject.images.classes,
        neighbour,
        subject.name_image,
        groups=subject.groups,
    )
    if subject.torn:
        accuracy = _judge(subject, view).accuracy
        sentence = difficulty.describe_torn(subject.torn.share, accuracy)
        told["sentence"] += f" {sentence}"
    return told


def build_learning_curve(subject: Subject, view: View) -> dict[str, Any]:
    """Returns the section `learning_curve`."""
    labels, recipe = subject.images.labels, view.probed.recipe

    def report(done: int, total: int) -> None:
        events.progress(_PHASE, done, total, "probes")

    points = learning_curve.measure_points(
        view.reduced,
        labels,
        subject.rows,
        recipe=recipe,
        groups=subject.groups,
        threads=subject.threads,
        report=report,
    )
    section = learning_curve.describe_curve(points, subject.sizes.train)
    fit = section["fit"]
    gains = class_gains.measure_gains(
        view.reduced,
        labels,
        subject.rows,
        recipe=recipe,
        exponent=fit["c"] if fit else class_gains.USUAL_EXPONENT,
        groups=subject.groups,
        threads=subject.threads,
        report=report,
    )
    by_class = class_gains.describe_gains(gains, subject.images.classes)
    return section | {"by_class": by_class}


def build_base_models(subject: Subject) -> dict[str, Any]:
    """Returns the list `base_models`, the `winner` and those that could not be asked.

    Raises:
        UserError: Not even the first one could, which everything else rests on.
        RetryableError: Its weights could not be fetched just now.
    """
    entries: list[leaderboard.Entry] = []
    left_out = []
    for name, spec in subject.request.comparisons().items():
        try:
            view = subject.view(spec)
            with subject.booked("timing"):
                seconds = _time_pass(subject, view.made)
            subject.forget(spec)
        except Exception as error:
            if not entries or not _concerns_one(error):
                raise
            left_out.append({"name": name, "reason": failures.explain(error).message})
            continue
        size = resolve_image_size_px(name, spec.image_size_px)
        right = view.probed.predicted == subject.images.labels[subject.rows]
        entries.append(leaderboard.Entry(name, size, right, 1000 * seconds))
    own = None if subject.groups is None else subject.groups[subject.rows]
    return {
        "base_models": leaderboard.describe_base_models(entries, own),
        "base_models_left_out": left_out,
        "winner": leaderboard.choose_winner(entries, own),
    }


def build_presets(
    subject: Subject, timed: dict[str, Timed], pass_memory: int
) -> dict[str, Any]:
    """Returns the section `presets`: what is promised of each.

    Args:
        subject: The dataset version.
        timed: From `preset_steps.time_presets`.
        pass_memory: Bytes that a training holds which only makes passes.
    """
    section = {}
    for name, spec in subject.request.presets().items():
        view, steps = subject.view(spec), timed[name]
        obstacle = steps if isinstance(steps, CannotTime) else None
        steps = None if isinstance(steps, CannotTime) else steps
        with subject.booked("timing"):
            pass_seconds = _time_pass(subject, view.made)
        size = view.made.features.shape[1]
        section[name] = describe_preset(
            name,
            spec,
            judged=_judge(subject, view),
            sizes=subject.sizes,
            costs=Costs(pass_seconds, size, steps, _find_start_seconds(subject)),
            history=subject.request.history,
            memory_bytes=reckon_memory(spec, steps) if steps else pass_memory,
            obstacle=obstacle,
        )
    return section


def describe_doubts(subject: Subject, view: View) -> str | None:
    """Returns a sentence where the training split's labels are doubted as a whole."""
    return describe_doubt_of_labels(_judge(subject, view))


def _judge(subject: Subject, view: View) -> Judged:
    splits, labels = subject.images.splits, subject.images.labels

    def judge(probed: Probed) -> Judged:
        return judge_probe(
            probed, labels, splits["val"], groups=subject.groups, test=splits["test"]
        )

    judged = judge(view.probed)
    if subject.torn is None:
        return judged
    probed, share = subject.probe_torn(view, subject.torn)
    gained = judge(probed).accuracy - judged.accuracy
    return replace(judged, accuracy=judged.accuracy + share * gained)


def _concerns_one(error: Exception) -> bool:
    """Whether it is the fault of one base model: its weights, or its size."""
    # A server that fails may answer another time, but the forecast is of use without.
    return isinstance(error, UserError | RetryableError) or failures.is_memory(error)


def measure_pass_memory(subject: Subject, made: Pass) -> int:
    """Returns the bytes that a training holds which only makes passes.

    To be asked before anything else is held.
    """
    if made.was_found:
        _time_pass(subject, made)  # else not even its network has been built
    return timing.find_peak_memory()


def _time_pass(subject: Subject, made: Pass) -> float:
    return timing.time_pass(
        made.pack, made.base, made.origin, subject.request.engines, subject.threads
    )


def _find_start_seconds(subject: Subject) -> float:
    """Run alone, a training imports the frameworks first, as this process did."""
    return _START_SECONDS if subject.request.job else subject.seconds["imports"]
