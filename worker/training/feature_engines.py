"""Runs a frozen base over batches of pixels, as fast as stays exact.

Four engines. `openvino` and `onnxruntime` run the converted base, one single-threaded
lane a core: lanes wait for nobody, where threads within one picture wait for each other
at every layer. `tensorflow-folded` bakes the weights into the graph as constants, so
that TensorFlow merges BatchNormalization into the convolutions before it; `keras` calls
the model as it is. Measured (EfficientNet-Lite0, 224 px, two cores with AVX-512):
OpenVINO 305 images/s, ONNX Runtime 285, folded 160, `predict` 93.

Which one is chosen, and how, is told in `engine_choice.py`.
"""

import hashlib
import os
import platform
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from worker.training import onnx_model, openvino_model
from worker.training.determinism import ONEDNN_VARIABLE
from worker.training.frozen_base import FrozenBase

OPENVINO = "openvino"
ONNX = "onnxruntime"
FOLDED = "tensorflow-folded"
PLAIN = "keras"
ENGINES = (OPENVINO, ONNX, FOLDED, PLAIN)

FLOAT32 = "float32"
BFLOAT16 = "mixed_bfloat16"
FLOAT16 = "mixed_float16"

# Where the engine itself uses every core, or a GPU does: one lane computes while the
# others read and augment.
_LANES_THAT_PREPARE = 1
_LANES_THAT_FEED_A_GPU = 4

# A graph is one protobuf message, and those end at 2 GiB.
_MAX_FOLDED_BYTES = 3 * 2**29
_FLOAT32_BYTES = 4

# Source: the Linux kernel's names in /proc/cpuinfo, on x86 and on ARM.
_CPU_FIELDS = (
    "model name",
    "cpu family",
    "model",
    "CPU implementer",
    "CPU variant",
    "CPU part",
)
_INSTRUCTION_FIELDS = ("flags", "Features")
_FLAGS_CHARACTERS = 8


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What computed a feature view: all that decides its bits besides the pictures.

    Args:
        engine: `openvino`, `onnxruntime`, `tensorflow-folded` or `keras`.
        precision: `float32`, `mixed_bfloat16` or `mixed_float16`.
        batch_rows: Rows of every call, the last one padded: kernels choose their order
            of summation by shape, and a row's features must not depend on how many
            came with it.
        threads: Compute threads within one call; 0 where the framework decides.
        framework: Names and versions of what runs it, and whose kernels.
        processor: The processors, by name and by what decides which kernels they get:
            other kernels on another type round differently.
    """

    engine: str
    precision: str
    batch_rows: int
    threads: int
    framework: str
    processor: str

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Any) -> Self | None:
        """Reads what `to_json` wrote; None when it is something else."""
        try:
            return cls(**fields)
        except TypeError:
            return None


class Engine:
    """Computes features; any number of threads may call it at once.

    Args:
        origin: What it is.
        lanes: Threads that should call it, each with pictures of its own making.
        run: From exactly `batch_rows` pictures to features.
        alone: Whether calls must follow one another.
    """

    def __init__(
        self,
        origin: Origin,
        run: Callable[[np.ndarray], np.ndarray],
        *,
        lanes: int,
        alone: bool,
    ) -> None:
        self.origin = origin
        self.lanes = lanes
        self._run = run
        self._turn = threading.Lock() if alone else None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the features of at most `batch_rows` pictures.

        Shapes:
            pixels: (rows, size, size, 3) uint8.
            result: (rows, feature_size) float32.
        """
        missing = self.origin.batch_rows - len(pixels)
        whole = pixels
        if missing:
            whole = np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0)))
        if self._turn is None:
            return self._run(whole)[: len(pixels)]
        with self._turn:
            return self._run(whole)[: len(pixels)]

    def compute(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the features of any number of pictures.

        Shapes:
            pixels: (rows, size, size, 3) uint8.
            result: (rows, feature_size) float32.
        """
        size = self.origin.batch_rows
        pieces = [pixels[at : at + size] for at in range(0, len(pixels), size)]
        with ThreadPoolExecutor(self.lanes) as pool:
            return np.concatenate(list(pool.map(self, pieces)))


def list_engines(base: FrozenBase) -> list[str]:
    """Returns the engines that could run `base` here, in a fixed order."""
    fits = base.parameters * _FLOAT32_BYTES < _MAX_FOLDED_BYTES
    if keras.backend.backend() != "tensorflow" or not fits:
        return [PLAIN]
    # OpenVINO and the ONNX Runtime that we install compute on the CPU alone.
    return [FOLDED, PLAIN] if has_gpu() else list(ENGINES)


def build_origin(
    engine: str, *, precision: str = FLOAT32, batch_rows: int, threads: int
) -> Origin:
    """Returns the origin of what `engine` computes on this machine."""
    return Origin(
        engine=engine,
        precision=precision,
        batch_rows=batch_rows,
        threads=threads,
        framework=name_framework(engine),
        processor=name_processor(),
    )


def build_engine(
    origin: Origin, base: FrozenBase, *, folder: Path, cores: int
) -> Engine:
    """Returns the engine that computes what `origin` says.

    Args:
        origin: From `build_origin`, here or on another machine.
        base: The frozen base.
        folder: Where converted models are kept.
        cores: Threads that this job may use.
    """
    if origin.engine == OPENVINO:
        run = openvino_model.build_runner(
            onnx_model.open_or_convert(base, folder),
            batch_rows=origin.batch_rows,
            image_size_px=base.image_size_px,
            bfloat16=origin.precision == BFLOAT16,
            streams=cores,
        )
        # Its own threads compute: the next pictures must be ready when one is free.
        return Engine(origin, run, lanes=cores + _LANES_THAT_PREPARE, alone=False)
    if origin.engine == ONNX:
        model = onnx_model.open_or_convert(base, folder)
        run = onnx_model.build_runner(model, threads=origin.threads)
        single = origin.threads == 1
        lanes = cores if single else 1 + _LANES_THAT_PREPARE
        return Engine(origin, run, lanes=lanes, alone=not single)
    network = base.build(origin.precision)
    if origin.engine == FOLDED:
        run = _build_folded(network, origin.batch_rows)
    else:
        run = _build_plain(network)
    more = _LANES_THAT_FEED_A_GPU if has_gpu() else _LANES_THAT_PREPARE
    return Engine(origin, run, lanes=1 + more, alone=True)


def measure_difference(got: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest deviation as a share of the largest expected value.

    Returns:
        Infinite where `got` holds something that is no number.
    """
    largest = float(np.abs(expected).max()) or 1.0
    difference = float(np.abs(got - expected).max()) / largest
    return difference if np.isfinite(difference) else float("inf")


def count_threads() -> int:
    """Returns the framework's compute threads; 0 where the framework decides."""
    if keras.backend.backend() != "tensorflow":
        return 0
    import tensorflow as tf  # noqa: PLC0415 - only under the TensorFlow backend

    return tf.config.threading.get_intra_op_parallelism_threads()


def name_framework(engine: str) -> str:
    """Returns the names and versions of what runs `engine`, and whose kernels.

    TensorFlow's own kernels and those of oneDNN differ in the last bits.
    """
    backend = keras.backend.backend()
    names = f"keras {keras.__version__}, {backend} {__import__(backend).__version__}"
    if engine not in {OPENVINO, ONNX}:
        return f"{names}, oneDNN {os.environ.get(ONEDNN_VARIABLE, 'by default')}"
    names = f"{names}, {onnx_model.name_versions()}"
    return f"{names}, {openvino_model.name_version()}" if engine == OPENVINO else names


def has_gpu() -> bool:
    """Whether the framework computes on a GPU."""
    return bool(_gpu_names())


def name_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns what computes here, GPUs among it.

    A name alone may stand for several generations ("AMD EPYC"), and libraries choose
    their kernels by the instructions, which a virtual machine may hide.

    Args:
        cpuinfo: Where the kernel describes the CPUs.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    fields: dict[str, set[str]] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), set()).add(value.strip())
    kinds = [
        f"{key} {'/'.join(sorted(fields[key]))}" for key in _CPU_FIELDS if key in fields
    ]
    listed = [flags for key in _INSTRUCTION_FIELDS for flags in fields.get(key, ())]
    flags = " ".join(sorted(" ".join(listed).split()))
    digest = hashlib.sha256(flags.encode()).hexdigest()[:_FLAGS_CHARACTERS]
    cpu = ", ".join([*(kinds or [platform.machine()]), f"instructions {digest}"])
    return ", ".join([*sorted(set(_gpu_names())), cpu])


def _gpu_names() -> list[str]:
    backend = keras.backend.backend()
    if backend == "jax":
        import jax  # noqa: PLC0415 - only under the JAX backend

        return [d.device_kind for d in jax.devices() if d.platform == "gpu"]
    if backend != "tensorflow":
        return []
    import tensorflow as tf  # noqa: PLC0415 - only under the TensorFlow backend

    return [
        str(tf.config.experimental.get_device_details(gpu).get("device_name", "GPU"))
        for gpu in tf.config.list_physical_devices("GPU")
    ]


def _build_plain(network: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    # Calling the model directly would keep every layer's output until the last one is
    # done: gigabytes for a small network, more than any machine has for a large one.
    return lambda pixels: np.asarray(
        network.predict_on_batch(pixels.astype(np.float32)), np.float32
    )


def _build_folded(
    network: keras.Model, batch_rows: int
) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow as tf  # noqa: PLC0415 - only under the TensorFlow backend

    folded = onnx_model.fold(network, batch_rows)
    return lambda pixels: folded(tf.constant(pixels))[0].numpy()
