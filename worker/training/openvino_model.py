"""Runs a converted frozen base with OpenVINO.

Its kernels are the fastest float32 ones where the processor has AVX-512, and the only
ones that gain from bfloat16 multiplied in hardware. Measured (EfficientNet-Lite0,
224 px, two cores with AMX, float32): 305 images/s against 285 of ONNX Runtime; in
bfloat16 690, where TensorFlow's mixed precision is slower than its float32.
"""

import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np


def build_runner(
    model: bytes, *, batch_rows: int, image_size_px: int, bfloat16: bool, streams: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from pixels to features that many threads may call at once.

    Each of `streams` cores computes one call at a time, alone: a picture's features do
    not depend on how many there are.

    Args:
        model: An ONNX file's bytes, from uint8 pixels to float32 features.
        batch_rows: Rows of every call.
        image_size_px: Side of the pictures.
        bfloat16: Whether to multiply in half precision; sums stay float32.
        streams: Cores to use.

    Shapes:
        argument: (batch_rows, image_size_px, image_size_px, 3) uint8.
        result: (batch_rows, feature_size) float32.
    """
    import openvino  # noqa: PLC0415 - only when there is something to compute

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape([batch_rows, image_size_px, image_size_px, 3])
    compiled = core.compile_model(
        network,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,
            # Several jobs may share the machine: the kernel moves threads better.
            "ENABLE_CPU_PINNING": False,
        },
    )
    # Once on one thread: the bindings' first call builds tables under a lock, in which
    # Python may change threads. The next first call waits for the lock without letting
    # go of the interpreter, and nothing runs any more.
    compiled.create_infer_request().infer([_blank(batch_rows, image_size_px)])
    mine = threading.local()

    def run(pixels: np.ndarray) -> np.ndarray:
        if not hasattr(mine, "request"):
            mine.request = compiled.create_infer_request()
        request: Any = mine.request
        # The result's memory belongs to the request and is written again.
        return np.array(request.infer([pixels], share_inputs=True)[0])

    return run


def _blank(rows: int, side_px: int) -> np.ndarray:
    return np.zeros((rows, side_px, side_px, 3), np.uint8)


def name_version() -> str:
    """Returns the name and version of what runs."""
    return f"openvino {version('openvino')}"
