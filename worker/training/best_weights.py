"""Keeps the weights to publish, and says when to wait no longer or go on slower.

Keras's own callbacks keep this in memory only: after a restart they forget the best
and overwrite it with something worse (keras#17012). Here the decisions live in the
`TrainingState` and the weights in the checkpoint.
"""

import math
from collections.abc import Callable

from shared.training_spec import LearningRateSchedule, TrainingSpec
from worker.training.named_arrays import NamedArray
from worker.training.training_state import Best, TrainingState


class BestWeights:
    """The weights that would be published now.

    Args:
        spec: `monitor`, `save_best_only`, `early_stopping_patience` and the plateau's
            fields decide.
        state: Where the decisions are remembered.
        weights: The weights that `state.best` speaks of.
    """

    def __init__(
        self, spec: TrainingSpec, state: TrainingState, weights: list[NamedArray]
    ) -> None:
        self._spec = spec
        self._state = state
        self.weights = weights

    def end_epoch(
        self, values: dict[str, float], read_weights: Callable[[], list[NamedArray]]
    ) -> None:
        """Takes the epoch's weights if they are the best of all phases.

        With `save_best_only` off the newest weights are taken every time; early
        stopping still looks at the metric.
        """
        state, value = self._state, values[self._spec.monitor]
        if self._is_better(value, state.best_value):
            state.best_value, state.waited_epochs = value, 0
        else:
            state.waited_epochs += 1
        best = state.best.value if state.best else None
        if self._spec.save_best_only and not self._is_better(value, best):
            return
        self.weights = read_weights()
        state.best = Best(
            phase=state.phase,
            epoch=state.epoch - 1,
            step=state.step,
            monitor=self._spec.monitor,
            value=value,
        )

    @property
    def waited_long_enough(self) -> bool:
        """Whether the phase has gone its patience without improving."""
        patience = self._spec.early_stopping_patience
        return patience is not None and self._state.waited_epochs >= patience

    @property
    def is_on_plateau(self) -> bool:
        """Whether the learning rate is to be cut now.

        After `plateau_patience` epochs without improvement, and after each as many
        more: what Keras's `ReduceLROnPlateau` does with `min_delta=0`, but counted in
        the state, so that a resumed run cuts where the uninterrupted one does.
        """
        if self._spec.learning_rate_schedule != LearningRateSchedule.PLATEAU:
            return False
        waited = self._state.waited_epochs
        return waited > 0 and waited % self._spec.plateau_patience == 0

    def _is_better(self, value: float, than: float | None) -> bool:
        if not math.isfinite(value):
            return False
        if than is None:
            return True
        return value < than if self._spec.monitor == "val_loss" else value > than
