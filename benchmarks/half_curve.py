"""Fits a learning curve on half of a dataset and asks it about all of it."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import engine_events
from shared.presets import DEFAULT_PRESET, build_training_spec
from worker.insight.request import Request
from worker.training import determinism

_SEED = 1


def measure_half(version: Path, caches: Path) -> dict[str, Any]:
    """Returns what half of the data foretold, and what all of it reached.

    Both by probes on the features of the default preset, out of fold, on training and
    validation pictures, copies of one picture in one fold. What half of them are asked
    has seen nothing of the others: neither in its components nor in its penalty.

    Args:
        version: The dataset version.
        caches: Where its features are, or will be.
    """
    engine_events.silence()
    determinism.prepare_environment()
    from worker.insight import findings, learning_curve  # noqa: PLC0415 - frameworks
    from worker.insight.components import reduce_features  # noqa: PLC0415
    from worker.insight.cross_validation import cross_validate  # noqa: PLC0415
    from worker.insight.groups import draw_in_groups  # noqa: PLC0415
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
    half = draw_in_groups(
        rows, labels, subject.groups, len(rows) // 2, np.random.default_rng(_SEED)
    )
    how: dict[str, Any] = {"groups": subject.groups, "seed": _SEED}
    reduced = reduce_features(view.made.features, np.sort(half))
    known = cross_validate(
        reduced,
        labels,
        half,
        classes=len(subject.images.classes),
        groups=subject.groups,
    )
    points = learning_curve.measure_points(
        reduced, labels, half, recipe=known.recipe, **how
    )
    whole = learning_curve.measure_points(
        view.reduced, labels, rows, recipe=view.probed.recipe, shares=(1.0,), **how
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
