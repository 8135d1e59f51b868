"""Times the steps of every preset, or its predictions, each kind once."""

from pathlib import Path

from shared.training_spec import TrainingSpec
from worker import events
from worker.insight.step_timing import CannotTime, StepTiming
from worker.insight.subject import Subject
from worker.insight.timed_steps import time_apart

_PHASE = "timing"

# Of a preset: its steps, what keeps them from being made here, or None where nothing
# is timed.
Timed = StepTiming | CannotTime | None


def time_presets(subject: Subject, folder: Path) -> dict[str, Timed]:
    """Returns what steps of each preset take; before any pass is made.

    Args:
        subject: The dataset version.
        folder: Of this attempt, for files that are spoken through.

    Raises:
        OSError: The disk is full, or a file failed.
        RetryableError: Weights could not be fetched just now.
    """
    presets = subject.request.presets()
    keys = {
        name: _key_of(spec)
        for name, spec in presets.items()
        if subject.request.times_steps
    }
    wanted = {key: presets[name] for name, key in keys.items()}
    for spec in wanted.values():
        subject.passer.open_pack(spec)
    if wanted:
        events.phase(_PHASE)
    known = {key: _time(subject, spec, folder) for key, spec in wanted.items()}
    return {name: known[keys[name]] if name in keys else None for name in presets}


def _time(subject: Subject, spec: TrainingSpec, folder: Path) -> Timed:
    request = subject.request
    asked = {
        "kind": "train",
        "dataset": str(request.dataset.absolute()),
        "training": spec.model_dump(mode="json"),
        "caches": str(request.caches.absolute()),
        "engines": str(request.engines.absolute()),
        "weights_dirs": [str(path) for path in request.weights_dirs],
        "download_weights": request.download_weights,
        "threads": subject.threads,
    }

    def report(seconds: int) -> None:
        # Of how many nobody knows.
        before = round(subject.seconds.get("timing", 0.0))
        events.progress(_PHASE, before + seconds, 0, "s")

    try:
        with subject.booked("timing"):
            return time_apart(asked, folder, report)
    except CannotTime as error:
        return error


def _key_of(spec: TrainingSpec) -> str:
    """Presets that differ in the number of epochs alone have steps alike.

    Unless XLA compiles those of the longer training alone, on a GPU: what is timed is
    the last preset's, the longest. Another process would cost more than it tells.
    """
    changed = {"frozen_epochs": 1, "fine_tune_epochs": min(1, spec.fine_tune_epochs)}
    return spec.model_copy(update=changed).model_dump_json()
