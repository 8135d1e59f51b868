"""A training step under TensorFlow, on one device or on several.

`train_on_batch` under a `MirroredStrategy` hands every replica the whole batch. Here
each replica gets its own rows, and the optimizer adds the gradients of all of them.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from worker.training import train_step
from worker.training.replicas import Replicas

# Sets the replicas' random states apart; the first replica's is that of one device.
# Larger than any two seeds of one model differ by.
_REPLICA_SEED_STRIDE = 1_000_003

Tensor = Any


@dataclass(frozen=True)
class _Gradients:
    """One value per trainable variable and replica, and what the update needs."""

    loss: float
    accuracy: float
    by_variable: Any
    moved: list[Tensor]


class TensorFlowStep:
    """Takes and applies the gradients of one model.

    Args:
        model: Compiled, built in the replicas' scope.
        replicas: The devices that share each pass.
        jit_compile: Whether XLA compiles the gradients.
    """

    def __init__(
        self, model: keras.Model, replicas: Replicas, *, jit_compile: bool
    ) -> None:
        self._model = model
        self._count = replicas.count
        self._strategy = replicas.strategy or tf.distribute.get_strategy()
        self._moved = train_step.list_moved(model)
        of_one = tf.function(
            self._gradients_of_one, autograph=False, jit_compile=jit_compile or None
        )
        self._gradients: Any = tf.function(
            lambda parts, images: self._strategy.run(of_one, (*parts, images)),
            autograph=False,
        )
        self._apply: Any = tf.function(
            lambda by_variable: self._strategy.run(self._apply_on_one, (by_variable,)),
            autograph=False,
        )
        self._observe: Any = tf.function(
            lambda inputs: self._strategy.run(self._observe_on_one, (inputs,)),
            autograph=False,
        )
        self._predict: Any = tf.function(
            lambda inputs: self._strategy.run(self._predict_on_one, (inputs,)),
            autograph=False,
        )

    def gradients(self, parts: tuple[np.ndarray, ...], images: int) -> _Gradients:
        """Computes the gradients of one batch and changes nothing.

        Args:
            parts: As `TrainStep` cuts a batch; every replica takes its share of the
                rows of each pass.
            images: Images in the batch; filled-in rows are none.
        """
        shares = tuple(self._share(part, axis=1) for part in parts)
        by_variable, loss, accuracy, states = self._gradients(shares, images)
        return _Gradients(
            self._sum(loss),
            self._sum(accuracy),
            by_variable,
            [self._merge(state) for state in states],
        )

    def apply(self, gradients: _Gradients) -> None:
        """Updates the weights, the optimizer and what the passes moved."""
        self._apply(gradients.by_variable)
        self._move(gradients.moved)

    def observe(self, inputs: np.ndarray) -> None:
        """Moves what a training pass moves; the rows must be a multiple as below."""
        states = self._observe(self._share(inputs, axis=0))
        self._move([self._merge(state) for state in states])

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Returns the probabilities; the rows must be a multiple of the replicas."""
        said = self._predict(self._share(inputs, axis=0))
        results = self._strategy.experimental_local_results(said)
        return np.concatenate([result.numpy() for result in results])

    def _gradients_of_one(
        self,
        inputs: Tensor,
        labels: Tensor,
        weights: Tensor,
        counted: Tensor,
        images: int,
    ) -> tuple[Any, ...]:
        """Adds up the passes of one replica, one after the other.

        In a loop of the graph, since TensorFlow would run unrolled passes at once and
        need the memory of all.
        """
        parts = (inputs, labels, weights, counted)
        states = self._first_states()
        total = self._one_pass(tuple(part[0] for part in parts), states, images)
        passes = inputs.shape[0]
        if passes == 1:
            return total

        def add(number: Tensor, total: Any) -> Any:
            part = tuple(part[number] for part in parts)
            more = self._one_pass(part, total[3], images)
            sums = [g + h for g, h in zip(total[0], more[0], strict=True)]
            return number + 1, (sums, total[1] + more[1], total[2] + more[2], more[3])

        _, total = tf.while_loop(
            lambda number, _: number < passes,
            add,
            (tf.constant(1), total),
            parallel_iterations=1,
        )
        return total

    def _one_pass(
        self, part: tuple[Tensor, ...], states: list[Tensor], images: int
    ) -> tuple[Any, ...]:
        values = list(zip(self._moved, states, strict=True))
        trained = [variable.value for variable in self._model.trainable_variables]
        with tf.GradientTape() as tape:
            loss, accuracy, moved = train_step.measure_pass(
                self._model, values, part, images, replicas=self._count
            )
        gradients = tape.gradient(
            loss, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return gradients, loss, accuracy, moved

    def _first_states(self) -> list[Tensor]:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        states = []
        for variable in self._moved:
            value = tf.convert_to_tensor(variable.value)
            if not value.dtype.is_floating:
                seed, draws = tf.unstack(value)
                apart = tf.cast(replica, seed.dtype) * _REPLICA_SEED_STRIDE
                value = tf.stack([seed + apart, draws])
            states.append(value)
        return states

    def _apply_on_one(self, by_variable: Any) -> None:
        self._model.optimizer.apply(by_variable, self._model.trainable_variables)

    def _observe_on_one(self, inputs: Tensor) -> list[Tensor]:
        values = list(zip(self._moved, self._first_states(), strict=True))
        return train_step.observe_pass(self._model, values, inputs)

    def _predict_on_one(self, inputs: Tensor) -> Tensor:
        return self._model(tf.cast(inputs, tf.float32), training=False)

    def _move(self, values: list[Tensor]) -> None:
        for variable, value in zip(self._moved, values, strict=True):
            variable.assign(value)

    def _share(self, part: np.ndarray, *, axis: int) -> Any:
        if self._count == 1:
            return tf.constant(part)
        shares = np.split(part, self._count, axis=axis)
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(shares[context.replica_id_in_sync_group])
        )

    def _merge(self, state: Any) -> Tensor:
        """Statistics are the mean of all replicas', random states the first one's."""
        results = self._strategy.experimental_local_results(state)
        if not results[0].dtype.is_floating:
            return results[0]
        return tf.add_n(list(results)) / len(results)

    def _sum(self, value: Any) -> float:
        results = self._strategy.experimental_local_results(value)
        return float(sum(float(result) for result in results))
