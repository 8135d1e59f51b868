"""Measures what a training costs on this very machine: steps, predictions, passes.

Everything is measured with the objects that training itself uses, on the pictures
themselves: a fine-tune step of the preset, a prediction, a block of the frozen pass.
"""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from worker.insight.step_timing import StepTiming
from worker.training import features, jit_choice, phase_setup
from worker.training.best_weights import BestWeights
from worker.training.evaluate import predict_all
from worker.training.feature_engines import Origin
from worker.training.frozen_base import FrozenBase
from worker.training.pack import Pack
from worker.training.phase_setup import Material
from worker.training.phases import Phase
from worker.training.training_state import FINE_TUNE, TrainingState

_WARM_UP = 2  # steps that compile and fill caches
_MOST_STEPS, _MOST_SECONDS = 8, 8.0
_UNKNOWN_DOUBT = 0.1
_DEVIATIONS = 1.4826  # median deviations that are a standard one
_PREDICTIONS = 3
_PASS_IMAGES = 96


def time_steps(material: Material) -> StepTiming:
    """Builds the fine-tune phase of `material` and times some of its steps.

    Compiled by XLA or not, as a training of as many epochs chooses.

    Raises:
        DeviceMemoryTooSmall: When not even smaller passes fit.
    """
    began = time.monotonic()
    state = TrainingState(phase=FINE_TUNE)
    best = BestWeights(material.spec, state, [])
    phase = phase_setup.build_fine_tune(material, state, best)
    phase.step.halve_to(phase.least_halvings)
    phase.start()
    phase.train.start_epoch(0)
    chosen = _time(lambda: _choose_compiled(phase)) if phase.may_compile else 0.0
    seconds: list[float] = []
    built = 0.0
    for number in range(_WARM_UP + _MOST_STEPS):
        started = time.monotonic()
        phase.step.train(phase.train[number % len(phase.train)])
        if number < _WARM_UP:
            built = time.monotonic() - began - chosen
        else:
            seconds.append(time.monotonic() - started)
        if sum(seconds) > _MOST_SECONDS:
            break
    median = statistics.median(seconds)
    inputs = phase.train[0][0]
    phase.step.predict(inputs)
    predicted = statistics.median(
        _time(lambda: phase.step.predict(inputs)) for _ in range(_PREDICTIONS)
    )
    doubt = _measure_doubt(seconds, median)
    return StepTiming(built, median, doubt, predicted, find_peak_memory(), chosen)


def _choose_compiled(phase: Phase) -> None:
    """Lets the step go on as the faster one, as `Trainer` does."""
    steps = len(phase.train) * phase.epochs
    jit_choice.pays(phase.step, phase.train[0], steps=steps)


def time_predictions(material: Material) -> StepTiming:
    """Builds a whole model and times its predictions, for trainings without steps.

    Raises:
        MemoryError: When not even single pictures fit.
    """
    began = time.monotonic()
    model = phase_setup.build_untrained(material)
    rows = np.asarray(material.pack.splits["test"])[: material.spec.batch_size]

    def predict() -> object:
        size = material.spec.batch_size
        return predict_all(model, material.pack, rows, size, lambda *_: None)

    predict()
    built = time.monotonic() - began
    predicted = statistics.median(_time(predict) for _ in range(_PREDICTIONS))
    whole = predicted * material.spec.batch_size / len(rows)
    return StepTiming(built, 0.0, 0.0, whole, find_peak_memory())


def time_pass(
    pack: Pack, base: FrozenBase, origin: Origin, engines: Path, cores: int
) -> float:
    """Returns the seconds that the frozen base takes for one image.

    Args:
        pack: The pixels.
        base: The frozen base.
        origin: What has computed its plain view here.
        engines: Folder of this machine's choices of engines.
        cores: Threads that a job may use.
    """
    engine = features.open_engine(pack, base, origin, engines=engines, cores=cores)
    count = min(_PASS_IMAGES, len(pack.pixels))
    pixels = np.asarray(pack.pixels[np.arange(count)])
    engine.compute(pixels)
    began = time.monotonic()
    engine.compute(pixels)
    return (time.monotonic() - began) / count


def _measure_doubt(seconds: list[float], median: float) -> float:
    """Returns what the median may be off by, as a share of it.

    From the median deviation, which one hiccup among the steps does not move; an epoch
    is a sum of hundreds of them.
    """
    if len(seconds) < 2:  # noqa: PLR2004 - one step says nothing of others
        return _UNKNOWN_DOUBT
    apart = statistics.median(abs(one - median) for one in seconds)
    return _DEVIATIONS * apart / median / math.sqrt(len(seconds))


def _time(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def find_peak_memory() -> int:
    """Returns the most bytes that this process has held resident so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)
