"""Reads the tensors of a legacy torch `.pth` file without torch and without trust.

The format is a pickle, and a pickle may run any code. The unpickler here admits
tensors and the ordered dictionary that holds them, and nothing else.

Source: `torch.serialization._legacy_load`; the file is five pickles (magic number,
protocol, system facts, the object, the list of storage keys), then for each key its
length as a 64-bit integer and its raw values.
"""

import collections
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shared.errors import UserError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}

# What Python's unpickler raises on bytes that are no pickle, according to its page.
_DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    TypeError,
    ValueError,
)


def load_torch_tensors(path: Path) -> dict[str, np.ndarray]:
    """Returns the named tensors of the state dictionary in `path`.

    Raises:
        UserError: When the file is damaged, is not in the legacy format, or holds
            anything but tensors.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except _DAMAGE as error:
        raise UserError(
            f"The weights file {path.name} cannot be read as a legacy torch file of "
            f"tensors: {error}."
        ) from error


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    length: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")

    def persistent_load(self, saved: Any) -> _Storage:
        kind, dtype, key, _location, length, view = saved
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("it refers to something that is no tensor")
        return _Storage(str(key), dtype, int(length))


def _rebuild_tensor(
    storage: _Storage,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_unused: Any,
) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(shape), tuple(strides))


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    if _TensorUnpickler(file).load() != _MAGIC_NUMBER:
        raise pickle.UnpicklingError("its magic number is another")
    for _protocol_then_system in range(2):
        _TensorUnpickler(file).load()
    tensors = _TensorUnpickler(file).load()
    if not isinstance(tensors, dict) or not all(
        isinstance(tensor, _Tensor) for tensor in tensors.values()
    ):
        raise pickle.UnpicklingError("it holds something else than tensors")
    dtypes = {t.storage.key: t.storage.dtype for t in tensors.values()}
    values: dict[str, np.ndarray] = {}
    for key in _TensorUnpickler(file).load():
        length = int.from_bytes(file.read(8), "little")
        size_bytes = length * dtypes[key].itemsize
        raw = file.read(size_bytes)
        if len(raw) != size_bytes:
            raise EOFError("it ends too early")
        values[key] = np.frombuffer(raw, dtypes[key])
    return {
        name: _materialise(tensor, values[tensor.storage.key])
        for name, tensor in tensors.items()
    }


def _materialise(tensor: _Tensor, values: np.ndarray) -> np.ndarray:
    """Copies the tensor out of its storage, after a check of its bounds."""
    last = tensor.offset + sum(
        (size - 1) * stride
        for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    smallest = min((tensor.offset, *tensor.shape, *tensor.strides))
    if smallest < 0 or last >= len(values):
        raise ValueError("a tensor reaches beyond its storage")
    strides = [stride * values.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(
        values[tensor.offset :], tensor.shape, strides, writeable=False
    )
    return np.array(view)
