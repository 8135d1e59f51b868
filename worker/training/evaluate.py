"""Judges the finished model on the test split, which nothing has seen before.

Called once per published model, after training has ended and the weights are chosen:
a test split that helps to choose anything measures nothing.
"""

import contextlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.durable_files import write_atomically
from shared.training_spec import TrainingSpec
from worker.training import failures
from worker.training.intervals import wilson_interval
from worker.training.pack import Pack

_CALIBRATION_BINS = 15
_TABLE_ROWS = 8192  # of predictions in memory at once
_SMALLEST_PROBABILITY = 1e-7  # as in Keras's own cross-entropy


@dataclass(frozen=True)
class Evaluation:
    """What the test split says.

    Args:
        summary: The content of evaluation.json: accuracy with its Wilson interval,
            loss, per class, confusion, calibration, baseline, splits.
        pack: Names the images.
        rows: The test images' positions in it.
        probabilities: What the model says of each: `(rows, classes)` float32.
    """

    summary: dict[str, Any]
    pack: Pack
    rows: np.ndarray
    probabilities: np.ndarray

    def write(self, folder: Path, **more: Any) -> None:
        """Writes evaluation.json and predictions.parquet into `folder`.

        Args:
            folder: Is there already.
            more: Further entries of evaluation.json (`parity`, `seconds`,
                `checkpoint_stall`).
        """
        with write_atomically(folder / "evaluation.json") as path:
            path.write_text(json.dumps(self.summary | more, indent=1))
        with write_atomically(folder / "predictions.parquet") as path:
            self._write_predictions(path)

    def _write_predictions(self, path: Path) -> None:
        """Writes one row per test image, some thousands at a time."""
        first = self._build_table(0)
        with pq.ParquetWriter(path, first.schema) as writer:
            writer.write_table(first)
            for at in range(_TABLE_ROWS, len(self.rows), _TABLE_ROWS):
                writer.write_table(self._build_table(at))

    def _build_table(self, at: int) -> pa.Table:
        part = slice(at, at + _TABLE_ROWS)
        rows, probabilities = self.rows[part], self.probabilities[part]
        images, classes = self.pack.dataset, pa.array(self.pack.classes, pa.string())
        texts = images.texts.take(rows)
        starts = pa.array(np.arange(len(rows) + 1) * len(classes), pa.int32())
        columns = {
            # A version's manifest names its pictures by the same paths.
            "path": texts["path"] if images.root else texts["name"],
            "source_name": texts["name"],
            "sha256": texts["sha256"],
            "label": classes.take(pa.array(self.pack.labels[rows])),
            "predicted": classes.take(pa.array(np.argmax(probabilities, axis=1))),
            "confidence": pa.array(probabilities.max(axis=1), pa.float32()),
            "probabilities": pa.ListArray.from_arrays(
                starts, pa.array(probabilities.ravel(), pa.float32())
            ),
        }
        # The order of the probabilities is the order of the classes.
        return pa.table(columns).replace_schema_metadata(
            {"classes": json.dumps(list(self.pack.classes))}
        )


def evaluate(
    model: keras.Model,
    pack: Pack,
    spec: TrainingSpec,
    report: Callable[[int, int], None] = lambda _done, _total: None,
    *,
    halvings: int = 0,
) -> Evaluation:
    """Predicts every test image and measures the model by it.

    Args:
        model: From pixels to probabilities.
        pack: Its `test` split is read.
        spec: Names the batch size.
        report: Called with finished and all images.
        halvings: How often the batch had to be halved to fit the memory in training.
    """
    rows = np.asarray(pack.splits["test"])
    size = math.ceil(spec.batch_size / 2**halvings)
    probabilities = predict_all(model, pack, rows, size, report)
    labels = np.asarray(pack.labels)
    summary = measure(
        probabilities,
        labels[rows],
        pack.classes,
        train_labels=labels[pack.splits["train"]],
    )
    summary["splits"] = {name: len(split) for name, split in pack.splits.items()}
    return Evaluation(summary, pack, rows, probabilities)


def measure(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: list[str],
    *,
    train_labels: np.ndarray,
) -> dict[str, Any]:
    """Returns every number of evaluation.json that predictions decide.

    Args:
        probabilities: What the model says.
        labels: What is true.
        classes: Class names by number.
        train_labels: Their most frequent class is what the baseline always says.

    Shapes:
        probabilities: (n, classes) float32, rows summing to 1.
        labels: (n,) integers.
    """
    predicted = np.argmax(probabilities, axis=1)
    hits = int(np.sum(predicted == labels))
    truths = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    majority = np.argmax(np.bincount(train_labels, minlength=len(classes)))
    confusion = count_confusion(labels, predicted, len(classes))
    return {
        "classes": list(classes),
        "images": len(labels),
        "accuracy": hits / len(labels),
        "interval": list(wilson_interval(hits, len(labels))),
        "loss": float(np.mean(-np.log(np.maximum(truths, _SMALLEST_PROBABILITY)))),
        "per_class": measure_classes(confusion, classes),
        "confusion": confusion.tolist(),
        "calibration": measure_calibration(probabilities, labels),
        "baseline_majority": float(np.mean(labels == majority)),
    }


def count_confusion(
    labels: np.ndarray, predicted: np.ndarray, classes: int
) -> np.ndarray:
    """Returns how often each true class (row) was called each class (column)."""
    pairs = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return pairs.reshape(classes, classes)


def measure_classes(confusion: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """Returns precision, recall and F1 of each class; 0 where nothing was said."""
    rows = []
    for number, label in enumerate(classes):
        hits = int(confusion[number, number])
        called, images = int(confusion[:, number].sum()), int(confusion[number].sum())
        rows.append(
            {
                "label": label,
                "precision": hits / called if called else 0.0,
                "recall": hits / images if images else 0.0,
                "f1": 2 * hits / (called + images) if called + images else 0.0,
                "images": images,
            }
        )
    return rows


def measure_calibration(
    probabilities: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Compares how sure the model is with how often it is right.

    Returns:
        `ece`, the expected calibration error over 15 equal bins of confidence
        (Guo et al., arXiv:1706.04599), and the bins that hold any image.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_right = np.argmax(probabilities, axis=1) == labels
    edges = np.linspace(0, 1, _CALIBRATION_BINS + 1)
    places = np.clip(np.digitize(confidence, edges) - 1, 0, _CALIBRATION_BINS - 1)
    bins, error = [], 0.0
    for place in np.unique(places):
        here = places == place
        sure, right = float(confidence[here].mean()), float(is_right[here].mean())
        error += float(here.mean()) * abs(sure - right)
        bins.append(
            {
                "lo": float(edges[place]),
                "hi": float(edges[place + 1]),
                "images": int(here.sum()),
                "confidence": sure,
                "accuracy": right,
            }
        )
    return {"ece": error, "bins": bins}


def predict_all(
    model: keras.Model,
    pack: Pack,
    rows: np.ndarray,
    batch_size: int,
    report: Callable[[int, int], None],
) -> np.ndarray:
    """Predicts in the largest batches that fit the device, `batch_size` at most."""
    size = min(batch_size, len(rows))
    while True:
        with contextlib.suppress(_TooLarge):
            return _predict(model, pack, rows, size, report)
        # The exception held what the failed batch had computed; by now that is gone.
        size //= 2


class _TooLarge(Exception):  # noqa: N818 - control flow: smaller may do
    """A batch did not fit the device's memory."""


def _predict(
    model: keras.Model,
    pack: Pack,
    rows: np.ndarray,
    size: int,
    report: Callable[[int, int], None],
) -> np.ndarray:
    """Predicts in batches of one size, so that nothing is compiled twice."""
    probabilities = np.empty((len(rows), len(pack.classes)), np.float32)
    for at in range(0, len(rows), size):
        pixels = np.asarray(pack.pixels[rows[at : at + size]])
        missing = size - len(pixels)
        padded = np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0)))
        try:
            guesses = model.predict_on_batch(padded.astype(np.float32))
        except Exception as error:
            if size == 1 or not failures.is_memory(error):
                raise
            raise _TooLarge from error
        probabilities[at : at + len(pixels)] = np.asarray(guesses)[: len(pixels)]
        report(at + len(pixels), len(rows))
    return probabilities
