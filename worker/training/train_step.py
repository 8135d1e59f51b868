"""One training step: one update of the weights from the images of one batch.

A batch may be more than a device can hold at once. It then goes through the network in
several passes, whose gradients are added before the one update that follows: the result
is that of a single pass but for rounding and for what dropout drops. Checkpoints fall
between steps, so how many passes a step takes changes nothing about where a run can be
resumed.

The gradients are computed without touching any variable. A pass that runs out of memory
therefore leaves the model as it was, and the same batch can be tried in smaller passes.
"""

import contextlib
import gc
import math
from collections.abc import Iterator
from typing import Any, Protocol

import keras
import numpy as np

from worker.training import batch_norm, failures
from worker.training.batches import Batch
from worker.training.replicas import Replicas

# A symbolic tensor or a backend's array: Keras annotates neither.
Tensor = Any
_ops: Any = keras.ops


class DeviceMemoryTooSmall(Exception):  # noqa: N818 - control flow: smaller may do
    """A pass did not fit; the model is as it was before the batch."""


class Gradients(Protocol):
    """What one batch says about the weights; `apply` of its backend takes it.

    Args:
        loss: Mean loss over the batch.
        accuracy: Share of the batch's images that were classified rightly.
    """

    @property
    def loss(self) -> float:
        """Mean loss over the batch."""
        ...

    @property
    def accuracy(self) -> float:
        """Share of the batch's images that were classified rightly."""
        ...


class Backend(Protocol):
    """What differs between frameworks: how gradients are taken and applied."""

    def gradients(self, parts: tuple[np.ndarray, ...], images: int) -> Any:
        """Computes the gradients of one batch and changes nothing."""
        ...

    def apply(self, gradients: Any) -> None:
        """Updates the weights, the optimizer and what the passes moved."""
        ...

    def observe(self, inputs: np.ndarray) -> None:
        """Moves what a training pass moves, and learns nothing."""
        ...

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Returns what the model says, nothing dropped."""
        ...


class TrainStep:
    """Trains and asks one compiled model, in passes that fit the memory.

    Args:
        model: Compiled; its optimizer is built here.
        images_per_pass: Most images that go through the network at once, over all
            devices.
        replicas: The devices that share each pass.
    """

    def __init__(
        self, model: keras.Model, *, images_per_pass: int, replicas: Replicas
    ) -> None:
        self.model = model
        self.halvings = 0
        self._full_pass = images_per_pass
        self._replicas = replicas
        self._is_compiled = False
        with replicas.scope():
            model.optimizer.build(model.trainable_variables)
        self._backend = self._build_backend()

    @property
    def images_per_pass(self) -> int:
        """Most images that go through the network at once, over all devices."""
        halved = math.ceil(self._full_pass / 2**self.halvings)
        return max(self._replicas.count, halved)

    @property
    def can_halve(self) -> bool:
        """Whether a pass has more images than there are devices."""
        return self.images_per_pass > self._replicas.count

    def halve_to(self, halvings: int) -> None:
        """Makes every pass the full one, halved so many times."""
        if halvings == self.halvings:
            return
        self.halvings = halvings
        self._backend = self._build_backend()  # lets go of what the old one compiled

    def compile_by_xla(self, *, wanted: bool) -> None:
        """Lets XLA compile the gradients, or not (TensorFlow; JAX always does)."""
        if wanted == self._is_compiled:
            return
        self._is_compiled = wanted
        self._backend = self._build_backend()

    def rehearse(self, batch: Batch) -> None:
        """Computes the gradients of `batch` and drops them.

        Raises:
            DeviceMemoryTooSmall: When a pass does not fit.
        """
        with _telling_memory():
            self._backend.gradients(self._split(batch), len(batch[0]))

    def train(self, batch: Batch) -> dict[str, float]:
        """Updates the weights once from `batch` and returns its `loss` and `accuracy`.

        Raises:
            DeviceMemoryTooSmall: When a pass does not fit; the model is unchanged.

        Shapes:
            batch: inputs (n, ...), labels one-hot (n, classes) and, optionally, sample
                weights (n,).
        """
        images = len(batch[0])
        with _telling_memory():
            parts = self._split(batch)
            gradients = self._backend.gradients(parts, images)
        self._backend.apply(gradients)
        return {"loss": gradients.loss, "accuracy": gradients.accuracy}

    def observe(self, inputs: np.ndarray) -> None:
        """Lets BatchNormalization learn the statistics of one pass, and nothing else.

        Raises:
            DeviceMemoryTooSmall: When the pass does not fit; the model is unchanged.

        Shapes:
            inputs: (n, ...).
        """
        rows = math.ceil(len(inputs) / self._replicas.count) * self._replicas.count
        with _telling_memory():
            self._backend.observe(_repeat(inputs, rows))

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Returns the model's probabilities for `inputs`.

        In as many parts as a pass has been halved, so that what fits in training fits
        here too.

        Raises:
            DeviceMemoryTooSmall: When a part does not fit.

        Shapes:
            inputs: (n, ...).
            returns: (n, classes) float32.
        """
        parts = 2**self.halvings
        return predict_in_parts(self._backend, inputs, self._replicas, parts=parts)

    def _split(self, batch: Batch) -> tuple[np.ndarray, ...]:
        """Cuts a batch into passes of one shape, filled up with rows that count 0.

        A shape of its own for the last pass would be compiled anew.

        Shapes:
            returns: inputs (passes, rows, ...), labels (passes, rows, classes), and the
                weights in the loss and in the accuracy, (passes, rows) float32 each.
        """
        inputs, labels, *given = batch
        images, count = len(inputs), self._replicas.count
        passes = math.ceil(images / self.images_per_pass)
        rows = math.ceil(images / passes / count) * count
        counted = np.ones(images, np.float32)
        weights = given[0] if given else counted
        missing = passes * rows - images
        filled = _repeat(inputs, passes * rows)
        others = (_pad(part, missing) for part in (labels, weights, counted))
        return tuple(
            part.reshape(passes, rows, *part.shape[1:]) for part in (filled, *others)
        )

    def _build_backend(self) -> Backend:
        gc.collect()  # a failed pass leaves cycles that hold its tensors
        return build_backend(self.model, self._replicas, jit_compile=self._is_compiled)


def build_backend(
    model: keras.Model, replicas: Replicas, *, jit_compile: bool = False
) -> Backend:
    """Returns what trains `model`, if it is compiled, and asks it.

    Args:
        model: Built in the replicas' scope.
        replicas: The devices that share each pass.
        jit_compile: Whether XLA compiles the gradients (TensorFlow).
    """
    if keras.backend.backend() == "jax":
        from worker.training.jax_step import JaxStep  # noqa: PLC0415 - needs JAX

        return JaxStep(model, replicas)
    from worker.training.tensorflow_step import (  # noqa: PLC0415 - needs TensorFlow
        TensorFlowStep,
    )

    return TensorFlowStep(model, replicas, jit_compile=jit_compile)


def predict_in_parts(
    backend: Backend, inputs: np.ndarray, replicas: Replicas, *, parts: int
) -> np.ndarray:
    """Returns what `backend` says of `inputs`, asked in parts of one shape.

    Raises:
        DeviceMemoryTooSmall: When a part does not fit.

    Shapes:
        inputs: (n, ...).
        returns: (n, ...) float32.
    """
    size = math.ceil(len(inputs) / parts / replicas.count) * replicas.count
    said = []
    for at in range(0, len(inputs), size):
        part = inputs[at : at + size]
        with _telling_memory():
            said.append(backend.predict(_pad(part, size - len(part)))[: len(part)])
    return np.concatenate(said)


def list_random_states(model: keras.Model) -> list[Any]:
    """Lists the states of the model's seed generators, which a pass moves on."""
    weights = {id(variable) for variable in model.weights}
    return [v for v in model.variables if id(v) not in weights]


def list_moved(model: keras.Model) -> list[Any]:
    """Lists what a pass moves on besides the update: random states, then statistics."""
    return [*list_random_states(model), *batch_norm.list_statistics(model)]


def observe_pass(
    model: Any, values: list[tuple[Any, Tensor]], inputs: Tensor
) -> list[Tensor]:
    """Runs one training pass without a loss and changes no variable.

    Args:
        model: The model.
        values: Variables of the model with the values to use for them.
        inputs: The pass's rows.

    Returns:
        What `list_moved` names after it.
    """
    with keras.StatelessScope(values) as scope:
        model(_ops.cast(inputs, "float32"), training=True)
        return [scope.get_current_value(state) for state in list_moved(model)]


def measure_pass(
    model: Any,
    values: list[tuple[Any, Tensor]],
    part: tuple[Tensor, ...],
    images: int,
    *,
    replicas: int,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Runs one pass and changes no variable; the same for every backend.

    Args:
        model: Compiled.
        values: Variables of the model with the values to use for them.
        part: Inputs, labels and the two weights of the pass's rows.
        images: Images in the whole batch.
        replicas: Devices that run the pass, each on rows of its own.

    Returns:
        The pass's share of the batch's mean loss, its share of the accuracy, and what
        `list_moved` names after it.
    """
    inputs, labels, weights, counted = part
    states = list_moved(model)
    with keras.StatelessScope(values, collect_losses=True) as scope:
        said = model(_ops.cast(inputs, "float32"), training=True)
        # A mean over the pass's rows; rows that were filled in weigh nothing.
        loss = model.compute_loss(inputs, labels, said, weights, training=True)
        moved = [scope.get_current_value(state) for state in states]
    rows: int = labels.shape[0]
    # Within a strategy, Keras divides the mean by the number of replicas.
    loss = loss * (rows * replicas / images)
    right = _ops.argmax(said, axis=1) == _ops.argmax(labels, axis=1)
    hits = _ops.sum(_ops.cast(right, "float32") * counted)
    return loss, hits / images, moved


@contextlib.contextmanager
def _telling_memory() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not failures.is_memory(error):
            raise
        raise DeviceMemoryTooSmall from error


def _repeat(inputs: np.ndarray, rows: int) -> np.ndarray:
    """Fills up to `rows` with images again: BatchNormalization looks at all of them."""
    if rows == len(inputs):
        return inputs
    return inputs[np.arange(rows) % len(inputs)]


def _pad(part: np.ndarray, missing: int) -> np.ndarray:
    if not missing:
        return part
    return np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
