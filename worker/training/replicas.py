"""The devices that share each pass of a training step.

With one device, nothing here does anything. With several, every variable has one copy
per device, each device gets an equal share of the rows, and the gradients are added
over all of them before the update, so that the copies stay equal.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Replicas:
    """Devices, and what the framework needs to use them together.

    Args:
        count: Number of devices, at least 1.
        strategy: TensorFlow's `MirroredStrategy` or Keras's `DataParallel`; None for
            one device.
    """

    count: int = 1
    strategy: Any = None

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the context in which a model for these devices is built."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()


def has_accelerator() -> bool:
    """Whether this process trains in a device's memory, not in the machine's."""
    return not keras.distribution.list_devices()[0].startswith("cpu")


def find_replicas() -> Replicas:
    """Returns every accelerator that this process may use, or its one CPU.

    Which ones it may use is told by `CUDA_VISIBLE_DEVICES`.
    """
    if keras.backend.backend() == "jax":
        devices = keras.distribution.list_devices()
        if len(devices) == 1:
            return Replicas()
        return Replicas(len(devices), keras.distribution.DataParallel(devices=devices))
    import tensorflow as tf  # noqa: PLC0415 - only under the TensorFlow backend

    gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if len(devices) == 1:
        return Replicas()
    return Replicas(len(devices), tf.distribute.MirroredStrategy(devices))
