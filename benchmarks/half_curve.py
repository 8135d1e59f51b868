"""Fits a learning curve on half of a dataset and asks it about all of it."""

from pathlib import Path
from typing import Any

import numpy as np

from shared.presets import DEFAULT_PRESET, build_training_spec
from worker.insight.request import Request
from worker.training import determinism
from worker.training.regression import draw_rows

_SEED = 1


def measure_half(version: Path, caches: Path) -> dict[str, Any]:
    """Returns what half of the data foretold, and what all of it reached.

    Both by the same probe on the features of the default preset, out of fold, on
    training and validation pictures, copies of one picture in one fold.

    Args:
        version: The dataset version.
        caches: Where its features are, or will be.
    """
    determinism.prepare_environment()
    from worker.insight import findings, learning_curve  # noqa: PLC0415 - frameworks
    from worker.insight.subject import open_subject  # noqa: PLC0415

    request = Request(
        version, caches, caches / "engines", [], True, [], frozenset(), [], {}
    )
    subject = open_subject(request)
    spec = build_training_spec(DEFAULT_PRESET)
    pictures = findings.gather_pictures(subject, subject.make_pass(spec))
    likeness = findings.find_likeness(subject, pictures)
    subject.hold_together(likeness.duplicates.groups)
    view = subject.view(spec)
    labels, rows = subject.images.labels, subject.rows
    half = draw_rows(rows, labels, len(rows) // 2, np.random.default_rng(_SEED))
    how = {"recipe": view.probed.recipe, "groups": subject.groups, "seed": _SEED}
    points = learning_curve.measure_points(view.reduced, labels, half, **how)
    whole = learning_curve.measure_points(
        view.reduced, labels, rows, shares=(1.0,), **how
    )[0]
    curve = learning_curve.fit_curve(
        [point.images for point in points], [1 - point.accuracy for point in points]
    )
    foretold, interval = learning_curve.look_ahead(
        curve, learning_curve.resample_curves(points), whole.images
    )
    return {
        "points": [[point.images, point.accuracy] for point in points],
        "foretold": foretold,
        "interval": list(interval),
        "reached": whole.accuracy,
        "error_points": 100 * abs(foretold - whole.accuracy),
    }
