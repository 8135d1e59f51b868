"""What is known of a training's steps on this machine: their times, or an obstacle."""

from dataclasses import dataclass

from shared.training_spec import TrainingSpec


@dataclass(frozen=True)
class StepTiming:
    """What steps and predictions cost.

    Args:
        build_seconds: From nothing to a model that has made its first steps, or without
            fine-tuning its first predictions.
        step_seconds: Of one update of the weights, the median; 0 without fine-tuning.
        deviation: What the median may be off by, as a share of it.
        predict_seconds: Of predicting one batch.
        memory_bytes: The most that this process has held resident.
        choice_seconds: Of finding out whether XLA makes steps faster, compiling them
            among it; 0 where nobody asks.
    """

    build_seconds: float
    step_seconds: float
    deviation: float
    predict_seconds: float
    memory_bytes: int
    choice_seconds: float = 0.0


class CannotTime(Exception):  # noqa: N818 - an answer, not a fault of the forecast
    """A training with these settings would not run here; says why."""


def count_steps(images: int, spec: TrainingSpec) -> int:
    """Returns the updates of the weights in one epoch over `images`."""
    return -(-images // (spec.batch_size * spec.gradient_accumulation_steps))
