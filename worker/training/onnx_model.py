"""Converts a frozen base to ONNX once, keeps the file, and runs it.

Keras's own `export(format="onnx")` writes EfficientNets that do not load; so the graph
is frozen first (weights as constants) and converted from there. Difference to the plain
model, measured over EfficientNet-Lite0: 3e-8 of the largest feature.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from shared.durable_files import write_atomically
from worker.training.frozen_base import FrozenBase

# Raise it with any change to what is converted.
_VERSION = 1
# The newest that tf2onnx 1.17 writes.
_OPSET = 18
_ERRORS_ONLY = 3


def open_or_convert(base: FrozenBase, folder: Path) -> bytes:
    """Returns the model as an ONNX file's bytes, converted unless it was before.

    The file's name carries the key of its contents and its digest lies beside it: a
    damaged or half-written one is converted again.

    Args:
        base: The frozen base; its network is built only to be converted.
        folder: Where converted models are kept; may be deleted at any time.
    """
    path = folder / f"{_build_key(base)}.onnx"
    digest_path = path.with_suffix(".sha256")
    with contextlib.suppress(OSError):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == digest_path.read_text():
            for file in (path, digest_path):
                os.utime(file)  # what is used stays in the cache
            return data
    data = _convert(base.build())
    with write_atomically(path) as part:
        part.write_bytes(data)
    with write_atomically(digest_path) as part:
        part.write_text(hashlib.sha256(data).hexdigest())
    return data


def build_runner(model: bytes, *, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from pixels to features; with one thread, many may call it.

    Shapes:
        argument: (rows, size, size, 3) uint8.
        result: (rows, feature_size) float32.
    """
    import onnxruntime  # noqa: PLC0415 - only when there is something to compute

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = _ERRORS_ONLY
    # A thread that spins while it waits takes the core from those that augment:
    # measured on two busy cores, 37 images/s instead of 46.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda pixels: np.asarray(session.run(None, {name: pixels})[0])


def fold(network: keras.Model, batch_rows: int | None) -> Any:
    """Returns the graph from uint8 pixels to float32 features, weights as constants.

    Args:
        network: The base.
        batch_rows: Rows of every call; None takes any number.
    """
    import tensorflow as tf  # noqa: PLC0415 - only under the TensorFlow backend
    from tensorflow.python.framework import (  # noqa: PLC0415 - no public name
        convert_to_constants,
    )

    shape = (batch_rows, *network.input_shape[1:])

    def features_of(pixels: Any) -> Any:
        features = network(tf.cast(pixels, tf.float32), training=False)
        return tf.cast(features, tf.float32)

    graph: Any = tf.function(
        features_of,
        input_signature=[tf.TensorSpec(shape, tf.uint8)],
        autograph=False,
    )
    return convert_to_constants.convert_variables_to_constants_v2(
        graph.get_concrete_function()
    )


def name_versions() -> str:
    """Returns the names and versions of what converts and runs."""
    return f"onnxruntime {version('onnxruntime')}, tf2onnx {version('tf2onnx')}"


def _build_key(base: FrozenBase) -> str:
    facts = {
        "version": _VERSION,
        "opset": _OPSET,
        "base": base.identity,
        "keras": keras.__version__,
        "tensorflow": version_of_tensorflow(),
        "versions": name_versions(),
    }
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def version_of_tensorflow() -> str:
    """Returns the version of the framework that a base is traced with."""
    import tensorflow as tf  # noqa: PLC0415 - only under the TensorFlow backend

    return tf.__version__


def _convert(network: keras.Model) -> bytes:
    import tf2onnx  # noqa: PLC0415 - only when there is something to convert

    folded = fold(network, None)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    # tf2onnx itself calls what TensorFlow has named deprecated.
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        model, _ = tf2onnx.convert.from_graph_def(
            folded.graph.as_graph_def(),
            input_names=[tensor.name for tensor in folded.inputs],
            output_names=[tensor.name for tensor in folded.outputs],
            opset=_OPSET,
        )
    finally:
        logger.setLevel(level)
    return model.SerializeToString(deterministic=True)
