"""Trains a small network on this slot's devices: `python -m worker.training.self_test`.

Run by a worker whose slot was taken out of service (`worker/self_test.py`). Ends with 0
when the slot is well, else with 70 and a `failed` event that says what is wrong:

1. The framework sees every GPU that the slot has. One that fell off its bus is missed
   in silence, and the CPU trains instead.
2. A matrix product is what NumPy makes of it.
3. A training step on each device lowers the loss.
"""

import os

import numpy as np

from worker import events
from worker.training import determinism, run

_FAILED = 70
_SIDE_PX, _IMAGES, _STEPS = 32, 64, 20
_PRODUCT_SIZE = 256
# Of the largest value: products in reduced precision (TF32 on GPUs) stay within it.
_TOLERANCE = 1e-2
_SEED = 0


class Unwell(Exception):  # noqa: N818 - of the slot, not of this code
    """What is wrong with the slot."""


def main() -> int:
    """Returns 0 when the slot is well."""
    events.take_over_stdout()
    determinism.prepare_environment()
    try:
        check_devices()
        check_product()
        check_training()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is wrong
        message = str(error) if isinstance(error, Unwell) else repr(error)
        events.emit("failed", code="unwell", message=message[:500], permanent=False)
        return _FAILED
    return 0


def check_devices() -> None:
    """Raises `Unwell` unless the framework sees every GPU that it was given."""
    import keras  # noqa: PLC0415 - after the environment is prepared

    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    wanted = 0 if given in ("", "-1") else len(given.split(","))
    seen = len(keras.distribution.list_devices("gpu"))
    if seen < wanted:
        raise Unwell(f"The slot has {wanted} GPUs, and the framework sees {seen}.")


def check_product() -> None:
    """Raises `Unwell` unless the device multiplies matrices as NumPy does."""
    import keras  # noqa: PLC0415 - after the environment is prepared

    rng = np.random.default_rng(_SEED)
    left, right = rng.normal(size=(2, _PRODUCT_SIZE, _PRODUCT_SIZE)).astype(np.float32)
    expected = left @ right
    got = keras.ops.convert_to_numpy(keras.ops.matmul(left, right))
    difference = np.abs(got - expected).max() / np.abs(expected).max()
    if not difference <= _TOLERANCE:
        raise Unwell(f"A matrix product is wrong by {difference:.2g} of its largest.")


def check_training() -> None:
    """Raises `Unwell` unless some steps of training lower the loss."""
    import keras  # noqa: PLC0415 - after the environment is prepared

    keras.utils.set_random_seed(_SEED)
    labels = np.arange(_IMAGES) % 2
    rng = np.random.default_rng(_SEED)
    images = rng.normal(size=(_IMAGES, _SIDE_PX, _SIDE_PX, 3)).astype(np.float32)
    images += labels[:, None, None, None]
    model = keras.Sequential(
        [
            keras.layers.Input((_SIDE_PX, _SIDE_PX, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    losses = [float(model.train_on_batch(images, labels)) for _ in range(_STEPS)]
    if not losses[-1] < losses[0]:
        raise Unwell(f"Training does not learn: its loss went {losses}.")


if __name__ == "__main__":
    run.leave(main())
