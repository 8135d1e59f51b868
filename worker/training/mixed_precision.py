"""Where half-precision features may stand in for float32 ones.

Only where the hardware multiplies bfloat16 or float16 itself, never in a deterministic
job, and only after a linear classifier has learned from both kinds of features of this
very dataset: the mixed ones may cost it 0.2 points of accuracy at most.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from worker.training.feature_engines import BFLOAT16, FLOAT16, Engine
from worker.training.pack import Pack

MOST_ACCURACY_LOST = 0.002

# Pictures of the training split that are compared: with 2,000 one wrong answer weighs
# 0.05 points. Fewer than 500 could not tell 0.2 points, so float32 stays.
_MOST_PICTURES = 2000
_FEWEST_PICTURES = 500
_FOLDS = 5
_FEWEST_PER_CLASS = _FOLDS
_FEWEST_CLASSES = 2

# Source: the Linux kernel's names of the CPU features in /proc/cpuinfo.
_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
# Source: CUDA's table of data types; tensor cores take float16 from compute capability
# 7.0 on and bfloat16 from 8.0 on.
_FLOAT16_SINCE, _BFLOAT16_SINCE = (7, 0), (8, 0)


def find_precision(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Returns the mixed precision that this machine computes in hardware, if any.

    Args:
        cpuinfo: Where the kernel lists the CPU's features.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf  # noqa: PLC0415 - only under the TensorFlow backend

    gpus = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    if gpus:
        return name_gpu_precision(min(gpus))
    try:
        flags = cpuinfo.read_text().split()
    except OSError:
        return None
    return BFLOAT16 if _CPU_FLAGS & set(flags) else None


def name_gpu_precision(capability: tuple[int, int]) -> str | None:
    """Returns the mixed precision of GPUs with this compute capability, if any."""
    if capability >= _BFLOAT16_SINCE:
        return BFLOAT16
    return FLOAT16 if capability >= _FLOAT16_SINCE else None


def compare(exact: Engine, mixed: Engine, pack: Pack) -> dict[str, Any]:
    """Says what the mixed features cost a linear classifier on this dataset.

    Args:
        exact: Computes float32 features.
        mixed: Computes the same with mixed precision.
        pack: Its training split is looked at, never another.

    Returns:
        `is_harmless`, and the two accuracies where they could be measured.
    """
    rows = _choose_rows(pack)
    if rows is None:
        return {"is_harmless": False, "reason": "too few pictures to tell"}
    labels = pack.labels[rows]
    accuracies = [
        measure_accuracy(_compute(engine, pack, rows), labels)
        for engine in (exact, mixed)
    ]
    return {
        "is_harmless": bool(accuracies[0] - accuracies[1] <= MOST_ACCURACY_LOST),
        "float32": accuracies[0],
        "mixed": accuracies[1],
        "pictures": len(rows),
    }


def measure_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Returns the accuracy of a logistic regression, each picture judged unseen.

    Shapes:
        features: (n, size) float32.
        labels: (n,) class numbers.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - seldom needed
    from sklearn.model_selection import (  # noqa: PLC0415 - seldom needed
        StratifiedKFold,
        cross_val_predict,
    )
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 - seldom needed
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - seldom needed

    if not np.isfinite(features).all():
        return 0.0
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    guesses = cross_val_predict(classifier, features, labels, cv=folds)
    return float(np.mean(guesses == labels))


def _choose_rows(pack: Pack) -> np.ndarray | None:
    """Returns rows of the split, each class as frequent as there, or None.

    None where they could not tell the two kinds of features apart: fewer pictures than
    that, or a single class. A class that some fold would lack is left out.
    """
    rows = np.sort(pack.splits["train"])
    labels = pack.labels[rows]
    share = min(1.0, _MOST_PICTURES / max(1, len(rows)))
    random = np.random.default_rng(0)
    chosen = []
    for number in np.unique(labels):
        own = rows[labels == number]
        wanted = min(len(own), max(_FEWEST_PER_CLASS, round(share * len(own))))
        if wanted >= _FEWEST_PER_CLASS:
            chosen.append(random.choice(own, wanted, replace=False))
    if len(chosen) < _FEWEST_CLASSES or sum(map(len, chosen)) < _FEWEST_PICTURES:
        return None
    return np.sort(np.concatenate(chosen))


def _compute(engine: Engine, pack: Pack, rows: np.ndarray) -> np.ndarray:
    size = engine.origin.batch_rows
    return np.concatenate(
        [
            engine(np.asarray(pack.pixels[rows[at : at + size]]))
            for at in range(0, len(rows), size)
        ]
    )
