import io
import pickle
import sys
import types

import numpy as np
import pytest

from shared.base_models import get_base_model
from shared.errors import UserError
from worker.training.pretrained_weights import find_imagenet_weights
from worker.training.torch_file import load_torch_tensors

MAGIC = 0x1950A86A20F9469CFC6C
VALUES = np.arange(6, dtype="<f4")


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Storage:
    """Pickles as a reference to the file's one storage."""


class LegacyPickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return "storage", sys.modules["torch"].FloatStorage, "7", "cpu", 6, None
        return None


def rebuild(*_arguments):
    raise AssertionError("only its name is written")


@pytest.fixture
def write_legacy(monkeypatch, tmp_path):
    """Writes files in torch's legacy format, also such as torch would not write."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    torch._utils, utils._rebuild_tensor_v2 = utils, rebuild
    monkeypatch.setattr(rebuild, "__module__", "torch._utils")
    monkeypatch.setattr(rebuild, "__qualname__", "_rebuild_tensor_v2")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    def write(content):
        buffer = io.BytesIO()
        for part in (MAGIC, 1001, {"little_endian": True}, content, ["7"]):
            LegacyPickler(buffer, protocol=2).dump(part)
        buffer.write(len(VALUES).to_bytes(8, "little") + VALUES.tobytes())
        path = tmp_path / "weights.pth"
        path.write_bytes(buffer.getvalue())
        return path

    return write


def tensor(offset, shape, strides):
    return Call(rebuild, Storage(), offset, shape, strides, False, {})


def test_tensors_are_read_by_offset_shape_and_strides(write_legacy):
    path = write_legacy(
        {
            "rows": tensor(0, (2, 3), (3, 1)),
            "columns": tensor(0, (3, 2), (1, 3)),
            "tail": tensor(4, (2,), (1,)),
            "scalar": tensor(5, (), ()),
        }
    )

    tensors = load_torch_tensors(path)

    assert tensors["rows"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tensors["columns"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert tensors["tail"].tolist() == [4, 5]
    assert tensors["scalar"] == 5


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (7,), (1,)),
        (5, (2,), (1,)),
        (0, (2, 3), (4, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 3), (1,)),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(write_legacy, offset, shape, strides):
    path = write_legacy({"weight": tensor(offset, shape, strides)})

    with pytest.raises(UserError, match=r"weights\.pth cannot be read"):
        load_torch_tensors(path)


def test_a_file_that_would_run_code_is_refused(write_legacy):
    path = write_legacy({"weight": Call(eval, "1/0")})

    with pytest.raises(UserError, match=r"builtin.*\.eval, which is refused"):
        load_torch_tensors(path)


def test_a_file_of_something_else_than_tensors_is_refused(write_legacy):
    with pytest.raises(UserError, match="something else than tensors"):
        load_torch_tensors(write_legacy({"weight": "text"}))
    with pytest.raises(UserError, match="something else than tensors"):
        load_torch_tensors(write_legacy([1, 2]))


@pytest.mark.parametrize("kept_bytes", [0, 10, 200, 60_000, 18_000_000])
def test_a_cut_file_is_refused(tmp_path, kept_bytes):
    whole = find_imagenet_weights(get_base_model("EfficientNetLite0"), [])
    path = tmp_path / "cut.pth"
    path.write_bytes(whole.read_bytes()[:kept_bytes])

    with pytest.raises(UserError, match=r"cut\.pth cannot be read"):
        load_torch_tensors(path)
