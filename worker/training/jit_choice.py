"""Decides by measuring whether XLA compiles a phase's training step.

On GPUs it fuses what lies between the convolutions and often pays; how much depends on
the base, the image size and the card. On CPUs it does not: a step of EfficientNet-Lite0
(224 px, 32 pictures, two cores) took 32 s compiled and 1.7 s not, so there nobody asks.
Nor in deterministic runs, which must not depend on what a clock said.

The choice is a fact of the training: a later attempt repeats it, since a compiled step
rounds differently and drops other features from the same seed.
"""

import statistics
import time

from worker.training.batches import Batch
from worker.training.train_step import TrainStep

# Compiling takes up to a minute: less training than this is not worth the question.
_WORTH_ASKING_SECONDS = 600.0
_ROUNDS = 5
# Faster by less is noise.
_GAIN = 1.05


def pays(step: TrainStep, batch: Batch, *, steps: int) -> bool:
    """Whether a compiled step is faster; `step` goes on as the faster one.

    Nothing is learned meanwhile: gradients are computed and dropped.

    Args:
        step: The phase's, in passes that fit the memory.
        batch: Any batch of the phase.
        steps: How many the phase has.
    """
    plain = _time(step, batch)
    if plain * steps < _WORTH_ASKING_SECONDS:
        return False
    try:
        step.compile_by_xla(wanted=True)
        compiled = _time(step, batch)
    except Exception:  # noqa: BLE001 - a compiler may fail in any way it likes
        compiled = float("inf")
    if compiled * _GAIN < plain:
        return True
    step.compile_by_xla(wanted=False)
    return False


def _time(step: TrainStep, batch: Batch) -> float:
    """Returns the median seconds of a step after a first, in which it is compiled."""
    step.rehearse(batch)
    spent = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        step.rehearse(batch)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)
