"""Makes a run repeat itself to the bit on one CPU type with one thread count.

Seeds alone do not do that: the thread count decides how sums are split, automatic
layer names depend on what the process built before, and some kernels take whichever
order threads finish in. Each is fixed here. The thread count is written into every
checkpoint, and a later attempt uses the recorded one.
"""

import os

ONEDNN_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"

# Read by the frameworks when they are imported; what the parent has set stays.
_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    # INFO and WARNING lines of the C++ side would bury our own in the log.
    "TF_CPP_MIN_LOG_LEVEL": "2",
    # A second slot may share the GPU; TensorFlow otherwise takes all its memory.
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    # TensorFlow turns oneDNN's kernels on by itself only where the CPU has instructions
    # for neural networks. An older one gains too (two cores with AVX2 alone, whole
    # networks: steps of EfficientNet-Lite0 at 224 px 15 % faster; at 160 px MobileNetV2
    # 36 %, ResNet50 50 %, DenseNet121 56 %).
    ONEDNN_VARIABLE: "1",
}


def prepare_environment() -> None:
    """Sets what must be set before the first import of a framework."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def count_cores() -> int:
    """Returns the cores this process may use (its CPU mask, not the machine's)."""
    return len(os.sched_getaffinity(0))


def fix_randomness(*, threads: int, deterministic: bool | None) -> bool:
    """Fixes the thread count and, if wanted, the order of every kernel.

    Must run before the first operation: the thread pools are made only once.

    Args:
        threads: Compute threads on the CPU.
        deterministic: The spec's wish; None means on for CPU and off for GPU, where
            deterministic kernels cost speed and some are missing.

    Returns:
        Whether this run is deterministic.
    """
    import cv2  # noqa: PLC0415 - a framework is imported only by who trains
    import keras  # noqa: PLC0415

    # Our own threads already keep the cores busy; OpenCV's pool on top is slower
    # (measured at 224 px on two cores: 600 images/s with its pool, 1,750 without).
    cv2.setNumThreads(1)
    if keras.backend.backend() != "tensorflow":
        return deterministic is not False
    return _fix_tensorflow(threads=threads, deterministic=deterministic)


def start_model(seed: int) -> None:
    """Makes the next model's names and first weights those of a fresh process.

    Call it before each build: automatic names and default seeds both depend on what
    the process built before.
    """
    import keras  # noqa: PLC0415 - a framework is imported only by who trains

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)


def _fix_tensorflow(*, threads: int, deterministic: bool | None) -> bool:
    import tensorflow as tf  # noqa: PLC0415 - only under the TensorFlow backend

    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    wanted = not has_gpu if deterministic is None else deterministic
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if wanted:
        tf.config.experimental.enable_op_determinism()
    return wanted
