"""How long a training will take and what it will hold: minutes, memory, disk.

The seconds are put together from what was measured here (`timing`) and what the spec
asks for. Finished trainings of this installation then correct the sum: by what they
really took against what was put together for them in the same way.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.base_models import get_base_model, resolve_image_size_px
from shared.training_spec import TrainingSpec
from worker.insight.step_timing import StepTiming, count_steps
from worker.training.regression import count_fitted

_FLOAT_BYTES = 4
_CHANNELS = 3
# Weights, the optimizer's two moments, their average and the best so far.
_COPIES_IN_CHECKPOINT = 5
_CHECKPOINTS = 2  # the newest, and the one before until that is proved
# What `augmentation_choice` judges: six kinds of changes, 400 pictures at most.
_CHOICE_KINDS, _CHOICE_PICTURES = 6, 400
# An epoch of a head on features, each thousand pictures (two cores, 1,280 features).
_HEAD_SECONDS = 0.07
# The regression that a head starts at, each thousand pictures of each view, thousand
# features and boundary between classes: solar cells in two classes took 10 seconds, in
# four classes, which are as many boundaries, 40.
_REGRESSION_SECONDS = 0.6
# Exporting traces and proves a model whatever its data: so many times as long as to
# build and compile one for training.
_EXPORT_BUILDS = 1.2
# The model that is evaluated is built anew, but learns no step.
_EVALUATION_BUILDS = 0.5
_EXPORT_SECONDS = 12.0
# What a training holds beyond its steps or predictions (the regression, what is written
# beside it, the export): five fine-tunings held 12 to 23 % more, five others 6 to 8 %.
_MORE_WITH_STEPS, _MORE_WITHOUT = 1.15, 1.08
_LEAST_DOUBT = 0.1  # as a share: a machine that others use too is never steadier
_KNOWN_COUNTS = 2.0


@dataclass(frozen=True)
class Sizes:
    """How much data there is.

    Args:
        train: Images of the training split.
        val: Of the validation split.
        test: Of the test split.
        classes: How many there are.
    """

    train: int
    val: int
    test: int
    classes: int = 2

    @property
    def all(self) -> int:
        """All three."""
        return self.train + self.val + self.test


@dataclass(frozen=True)
class Costs:
    """What was measured for one preset.

    Args:
        pass_seconds: Of the frozen base, one image.
        feature_size: Features of one image.
        steps: Of the preset; None where none were timed.
        start_seconds: What every training takes to begin.
    """

    pass_seconds: float
    feature_size: int
    steps: StepTiming | None
    start_seconds: float


def reckon_seconds(
    spec: TrainingSpec, sizes: Sizes, costs: Costs
) -> tuple[float, float, float]:
    """Returns the shortest, the likely and the longest training, seconds.

    Shortest and longest differ by the epochs that early stopping may leave out. Nobody
    knows how many: likely is what would be wrong by the same share of the real time at
    either end (their harmonic mean), the least there can be.
    """
    fixed = costs.start_seconds + _reckon_views(spec, sizes, costs)
    fixed += _reckon_frozen(spec, sizes, costs) + _reckon_end(spec, sizes, costs)
    if not spec.fine_tune_epochs or costs.steps is None:
        return fixed, fixed, fixed
    steps = costs.steps
    epoch = count_steps(sizes.train, spec) * steps.step_seconds
    epoch += math.ceil(sizes.val / spec.batch_size) * steps.predict_seconds
    base = fixed + steps.build_seconds + steps.choice_seconds
    shortest, longest = (base + epochs * epoch for epochs in _count_epochs(spec))
    return shortest, 2 * shortest * longest / (shortest + longest), longest


def correct_seconds(
    reckoned: tuple[float, float, float],
    ratios: Sequence[float],
    deviation: float = 0.0,
) -> tuple[float, float, float]:
    """Returns the range of seconds after what finished trainings have taught.

    Args:
        reckoned: As `reckon_seconds` returns it.
        ratios: What finished trainings took, divided by what was reckoned for them.
        deviation: Of the measured steps, as a share.
    """
    shortest, likely, longest = reckoned
    logs = [math.log(ratio) for ratio in ratios if ratio > 0]
    middle = statistics.median(logs) if logs else 0.0
    weight = len(logs) / (len(logs) + _KNOWN_COUNTS)
    times = math.exp(weight * middle)
    spread = statistics.pstdev(logs) if len(logs) > 1 else 0.0
    doubt = max(_LEAST_DOUBT, spread, deviation) * (1.5 if not logs else 1.0)
    return (
        shortest * times / (1 + doubt),
        likely * times,
        longest * times * (1 + doubt),
    )


def reckon_memory(spec: TrainingSpec, steps: StepTiming) -> int:
    """Returns the bytes that a training is expected to hold at its peak."""
    more = _MORE_WITH_STEPS if spec.fine_tune_epochs else _MORE_WITHOUT
    return round(more * steps.memory_bytes)


def reckon_disk(spec: TrainingSpec, sizes: Sizes, feature_size: int) -> dict[str, int]:
    """Returns the bytes of pack, features and checkpoints, and their sum.

    `there` are those of pack and plain view, which the forecast has left on the disk.
    """
    side = resolve_image_size_px(spec.base_model, spec.image_size_px)
    views = sizes.all + (spec.feature_views - 1) * sizes.train
    parameters = get_base_model(spec.base_model).parameters
    found = {
        "pack": sizes.all * side * side * _CHANNELS,
        "features": views * feature_size * _FLOAT_BYTES if spec.frozen_epochs else 0,
        "checkpoints": _reckon_checkpoints(spec, parameters),
    }
    plain = sizes.all * feature_size * _FLOAT_BYTES if spec.frozen_epochs else 0
    return found | {"total": sum(found.values()), "there": found["pack"] + plain}


def _reckon_checkpoints(spec: TrainingSpec, parameters: int) -> int:
    model = parameters * _FLOAT_BYTES
    if not spec.fine_tune_epochs:
        return model  # the published model alone: heads are small
    return model * (_CHECKPOINTS * _COPIES_IN_CHECKPOINT + 1)


def _reckon_views(spec: TrainingSpec, sizes: Sizes, costs: Costs) -> float:
    """The augmented views; pack and plain view are there since the forecast."""
    images = (spec.feature_views - 1) * sizes.train
    if spec.augmentation.measured:
        images += _CHOICE_KINDS * min(_CHOICE_PICTURES, sizes.val)
    return images * costs.pass_seconds


def _reckon_frozen(spec: TrainingSpec, sizes: Sizes, costs: Costs) -> float:
    epochs = sizes.train * spec.feature_views / 1000 * _HEAD_SECONDS
    epochs *= spec.frozen_epochs
    if spec.head_start != "logistic":
        return epochs
    fitted = count_fitted(
        costs.feature_size, sizes.train, spec.feature_views, sizes.val
    )
    boundaries = sizes.classes if sizes.classes > 2 else 1  # noqa: PLR2004
    each = _REGRESSION_SECONDS * costs.feature_size / 1000 * boundaries
    return epochs + fitted * spec.feature_views / 1000 * each


def _reckon_end(spec: TrainingSpec, sizes: Sizes, costs: Costs) -> float:
    """Evaluation, which predicts as Keras does and not as the frozen pass; export."""
    if costs.steps is None:
        return sizes.test * costs.pass_seconds + _EXPORT_SECONDS
    batches = math.ceil(sizes.test / spec.batch_size)
    predicted = batches * _count_mirrors(spec) * costs.steps.predict_seconds
    built = (_EVALUATION_BUILDS + _EXPORT_BUILDS) * costs.steps.build_seconds
    return predicted + built + _EXPORT_SECONDS


def _count_mirrors(spec: TrainingSpec) -> int:
    """Returns how many views of a picture a finished model looks at.

    Where flips are measured, all are counted: they did no harm on any set so far.
    """
    changes = spec.augmentation
    flips = 2 if changes.measured else changes.horizontal_flip + changes.vertical_flip
    return 2**flips if spec.test_time_augmentation else 1


def _count_epochs(spec: TrainingSpec) -> tuple[int, int]:
    patience, epochs = spec.early_stopping_patience, spec.fine_tune_epochs
    return (epochs if patience is None else min(patience, epochs)), epochs


def describe_doubt(known: Sequence[Any], *, has_steps: bool) -> str:
    """Returns the words for what the seconds rest on.

    Args:
        known: Finished trainings that correct them.
        has_steps: Whether steps of fine-tuning were timed for them.
    """
    measured = "steps" if has_steps else "the pass over the pictures"
    if not known:
        return f"from {measured} timed on this worker; no finished training corrects it"
    plural = "" if len(known) == 1 else "s"
    return (
        f"from {measured} timed on this worker and {len(known)} finished "
        f"training{plural}"
    )
