"""Builds the optimizer of a phase: its rule, its learning rates, its average.

Early layers of a pretrained network hold what all pictures share, late ones what the
old classes needed; so a smaller rate for early layers keeps more of the former
(Howard and Ruder, "Universal language model fine-tuning", arXiv:1801.06146).
"""

from collections.abc import Sequence
from typing import Any

import keras

from shared.training_spec import LearningRateSchedule, Optimizer, TrainingSpec
from worker.training.build_model import is_of_head

_WARM_UP_SHARE = 0.05
_WARM_UP_FROM = 0.1  # of the peak rate; 0 would waste the first step
_SGD_MOMENTUM = 0.9

_KINDS: dict[Optimizer, Any] = {
    Optimizer.ADAM: keras.optimizers.Adam,
    Optimizer.ADAMW: keras.optimizers.AdamW,
    Optimizer.SGD: keras.optimizers.SGD,
    Optimizer.RMSPROP: keras.optimizers.RMSprop,
}


def build_optimizer(
    spec: TrainingSpec, model: keras.Model, *, peak: float, steps: int
) -> keras.optimizers.Optimizer:
    """Returns the optimizer that trains `model` for one phase.

    Args:
        spec: Names the rule, the schedule, the average and the early layers' rate.
        model: Its trainable layers are final.
        peak: The phase's learning rate after its warm-up.
        steps: Steps of the whole phase.
    """
    kind = _KINDS[spec.optimizer]
    # The name is part of the variables' paths, which a checkpoint is checked by.
    options: dict[str, Any] = {"name": spec.optimizer.value}
    if spec.optimizer is Optimizer.SGD:
        options["momentum"] = _SGD_MOMENTUM
    if spec.weight_averaging:
        options |= {"use_ema": True, "ema_momentum": spec.weight_averaging}
    if spec.first_layer_rate < 1:
        kind = type(kind.__name__, (_LayerRates, kind), {})
        options["shares"] = list_shares(model, spec.first_layer_rate)
    return kind(_schedule(spec, peak, steps), **options)


def list_shares(model: keras.Model, first: float) -> list[float]:
    """Returns each trainable variable's share of the learning rate, in order.

    Args:
        model: The base, its head or both.
        first: Share of the first trained layer of the base; those after it rise by one
            factor from layer to layer up to the head, which has the whole rate.
    """
    trained = [layer for layer in model.layers if layer.trainable_variables]
    of_base = [layer for layer in trained if not is_of_head(layer)]
    share_of = {id(v): 1.0 for layer in trained for v in layer.trainable_variables}
    for place, layer in enumerate(of_base):
        share = first ** (1 - place / len(of_base))
        share_of |= {id(variable): share for variable in layer.trainable_variables}
    return [share_of[id(variable)] for variable in model.trainable_variables]


class _LayerRates:
    """Gives every variable its own share of an optimizer's learning rate.

    The decay of AdamW, apart from the gradient's step, keeps the whole rate. This class
    goes before a Keras optimizer in the order of bases.

    Args:
        *arguments: The optimizer's own.
        shares: One factor per trainable variable, in the model's order.
        **options: The optimizer's own.
    """

    def __init__(
        self, *arguments: Any, shares: Sequence[float], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._shares = tuple(shares)

    def update_step(
        self: Any, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        share = self._shares[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * share)  # type: ignore[misc]


def _schedule(
    spec: TrainingSpec, peak: float, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """A short warm-up, then a cosine to zero or none: a function of the step alone.

    For a plateau the plain rate: Keras then keeps it in a variable of the optimizer,
    which the end of an epoch may cut and every checkpoint holds.
    """
    if spec.learning_rate_schedule == LearningRateSchedule.PLATEAU:
        return peak
    falls = spec.learning_rate_schedule == LearningRateSchedule.COSINE
    warm_up = max(1, round(steps * _WARM_UP_SHARE))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak * _WARM_UP_FROM,
        decay_steps=max(1, steps - warm_up),
        alpha=0.0 if falls else 1.0,  # the share of the peak that it ends at
        warmup_target=peak,
        warmup_steps=warm_up,
    )
