"""Reads and writes a model's variables by value: the arrays of a checkpoint.

`save_weights` and `load_weights` do not resume exactly: a functional model's Dropout
seed generator is not among them (measured: it came back with 0 steps instead of 11).
So every entry of `model.variables` and `optimizer.variables` is kept, in order, and
checked by path, shape and type when it returns.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from shared.errors import InternalError
from worker.training.named_arrays import Arrays, NamedArray


def read(variables: Sequence[Any]) -> list[NamedArray]:
    """Returns copies of the variables' values, in order."""
    return [NamedArray(item.path, _copy(item)) for item in variables]


def write(variables: Sequence[Any], arrays: Sequence[NamedArray]) -> None:
    """Assigns `arrays` to `variables`, in order.

    Random states are whole numbers of another width in each backend.

    Raises:
        InternalError: When a path, shape or type differs; nothing is assigned then.
    """
    ours = [_describe(v.path, v.shape, v.dtype) for v in variables]
    theirs = [_describe(a.path, a.value.shape, a.value.dtype) for a in arrays]
    if ours != theirs:
        odd = sorted(set(ours) ^ set(theirs))[:6] or "their order"
        raise InternalError(
            f"The saved variables do not fit this model: {len(theirs)} saved, "
            f"{len(ours)} here; different: {odd}."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array.value.astype(_type_of(variable.dtype), copy=False))


def read_all(model: keras.Model) -> Arrays:
    """Returns everything that decides the model's next step."""
    return {
        "model": read(model.variables),
        "optimizer": read(model.optimizer.variables),
    }


def write_all(model: keras.Model, arrays: Arrays) -> None:
    """Puts a compiled model, whose optimizer is built, where `arrays` was read.

    Raises:
        InternalError: When the arrays are another model's.
    """
    write(model.variables, arrays["model"])
    write(model.optimizer.variables, arrays["optimizer"])


def _copy(variable: Any) -> np.ndarray:
    # TensorFlow's is a copy already; JAX lends its own memory, which the next step may
    # overwrite.
    value = np.asarray(keras.ops.convert_to_numpy(variable))
    return value if value.flags.owndata else value.copy()


def _describe(path: str, shape: Sequence[int], dtype: Any) -> str:
    kind = _type_of(dtype)
    name = "integer" if np.issubdtype(kind, np.integer) else kind.name
    return f"{path} {tuple(shape)} {name}"


def _type_of(dtype: Any) -> np.dtype:
    return np.dtype(str(dtype))
