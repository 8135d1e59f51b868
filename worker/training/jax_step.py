"""A training step under JAX, on one device or on several.

Everything is one program over all devices: Keras's `DataParallel` keeps a copy of each
variable on every device, the rows are laid out over them, and XLA adds the gradients.
"""

from dataclasses import dataclass
from typing import Any

import jax
import keras
import numpy as np

from worker.training import train_step
from worker.training.replicas import Replicas

Tensor = Any


@dataclass(frozen=True)
class _Gradients:
    """One value per trainable variable, and what the update needs."""

    loss: float
    accuracy: float
    by_variable: list[Tensor]
    moved: list[Tensor]


class JaxStep:
    """Takes and applies the gradients of one model.

    Args:
        model: Compiled, built in the replicas' scope.
        replicas: The devices that share each pass.
    """

    def __init__(self, model: keras.Model, replicas: Replicas) -> None:
        self._model: Any = model
        self._distribution = replicas.strategy
        self._moved = train_step.list_moved(model)
        moving = {id(v) for v in (*model.trainable_variables, *self._moved)}
        self._still = [v for v in model.variables if id(v) not in moving]
        self._gradients: Any = jax.jit(self._add_passes, static_argnums=4)
        self._apply: Any = jax.jit(self._update, donate_argnums=(0, 2))
        self._observe: Any = jax.jit(self._see)
        self._predict: Any = jax.jit(self._say)

    def gradients(self, parts: tuple[np.ndarray, ...], images: int) -> _Gradients:
        """Computes the gradients of one batch and changes nothing.

        Args:
            parts: As `TrainStep` cuts a batch.
            images: Images in the batch; filled-in rows are none.
        """
        by_variable, loss, accuracy, states = self._gradients(
            _values(self._model.trainable_variables),
            _values(self._still),
            _values(self._moved),
            tuple(self._lay_out(part, axis=1) for part in parts),
            images,
        )
        # JAX goes on before the device has: what did not fit must be told here.
        jax.block_until_ready(by_variable)
        return _Gradients(float(loss), float(accuracy), by_variable, states)

    def apply(self, gradients: _Gradients) -> None:
        """Updates the weights, the optimizer and what the passes moved."""
        trained, optimizer = self._model.trainable_variables, self._model.optimizer
        values, slots = self._apply(
            _values(optimizer.variables), gradients.by_variable, _values(trained)
        )
        _assign(trained, values)
        _assign(optimizer.variables, slots)
        _assign(self._moved, gradients.moved)

    def observe(self, inputs: np.ndarray) -> None:
        """Moves what a training pass moves; the rows must be a multiple as below."""
        values = self._observe(
            _values(self._model.variables), self._lay_out(inputs, axis=0)
        )
        _assign(self._moved, jax.block_until_ready(values))

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Returns the probabilities; the rows must be a multiple of the devices."""
        said = self._predict(
            _values(self._model.variables), self._lay_out(inputs, axis=0)
        )
        return np.asarray(said)

    def _add_passes(
        self,
        trained: list[Tensor],
        still: list[Tensor],
        states: list[Tensor],
        parts: tuple[Tensor, ...],
        images: int,
    ) -> tuple[Any, ...]:
        """Adds up the passes, one after the other, so that memory holds one."""

        def measure(
            values: list[Tensor], states: list[Tensor], part: Any
        ) -> tuple[Tensor, Any]:
            mapping = [
                *zip(self._model.trainable_variables, values, strict=True),
                *zip(self._still, still, strict=True),
                *zip(self._moved, states, strict=True),
            ]
            loss, accuracy, moved = train_step.measure_pass(
                self._model, mapping, part, images, replicas=1
            )
            return loss, (accuracy, moved)

        def one_pass(states: list[Tensor], part: Any) -> tuple[Any, ...]:
            (loss, (accuracy, moved)), gradients = jax.value_and_grad(
                measure, has_aux=True
            )(trained, states, part)
            return gradients, loss, accuracy, moved

        total = one_pass(states, tuple(part[0] for part in parts))
        if parts[0].shape[0] == 1:
            return total

        def add(total: Any, part: Any) -> tuple[Any, None]:
            more = one_pass(total[3], part)
            sums = jax.tree.map(lambda a, b: a + b, total[:3], more[:3])
            return (*sums, more[3]), None

        rest = tuple(part[1:] for part in parts)
        return jax.lax.scan(add, total, rest)[0]

    def _update(self, slots: Any, gradients: Any, trained: Any) -> Any:
        return self._model.optimizer.stateless_apply(slots, gradients, trained)

    def _see(self, values: list[Tensor], inputs: Tensor) -> list[Tensor]:
        mapping = list(zip(self._model.variables, values, strict=True))
        return train_step.observe_pass(self._model, mapping, inputs)

    def _say(self, values: list[Tensor], inputs: Tensor) -> Tensor:
        mapping = list(zip(self._model.variables, values, strict=True))
        with keras.StatelessScope(mapping):
            return self._model(inputs.astype("float32"), training=False)

    def _lay_out(self, part: np.ndarray, *, axis: int) -> Any:
        """Puts equal shares of the rows on the devices."""
        if self._distribution is None:
            return part
        axes: list[str | None] = [None] * part.ndim
        axes[axis] = self._distribution.batch_dim_name
        layout = keras.distribution.TensorLayout(axes, self._distribution.device_mesh)
        return keras.distribution.distribute_tensor(part, layout)


def _values(variables: Any) -> list[Tensor]:
    return [variable.value for variable in variables]


def _assign(variables: Any, values: list[Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
