"""Out-of-fold predictions: what linear probes say of pictures they have not seen."""

from dataclasses import dataclass

import numpy as np

from worker.insight.folds import deal_folds
from worker.insight.probe import (
    MOST_FITTED,
    Recipe,
    Report,
    choose_recipe,
    fit_probe,
    report_nothing,
    run_fits,
)
from worker.training.regression import draw_rows


@dataclass(frozen=True)
class Probed:
    """What the probe says of every row that it was asked about.

    Args:
        rows: Positions in the dataset, ascending.
        probabilities: Out of fold; 0 for a class that the other folds lack.
        recipe: How the probes were fitted.

    Shapes:
        rows: (n,) int64.
        probabilities: (n, classes) float32.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    recipe: Recipe

    @property
    def predicted(self) -> np.ndarray:
        """Returns the class said of each row: `(n,)`."""
        return self.probabilities.argmax(axis=1)


def cross_validate(
    features: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    classes: int,
    groups: np.ndarray | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    threads: int | None = None,
    report: Report = report_nothing,
) -> Probed:
    """Asks a probe about every one of `rows`, each time fitted on the other folds.

    Args:
        features: Of every image, best as `components.reduce_features` gives them.
        labels: Class number of every image.
        rows: Positions to ask about and to fit on.
        classes: How many classes there are.
        groups: Of every image; see `folds`.
        recipe: Defaults to the one that does best on the first fold.
        seed: Of the dealing and of drawing from large sets.
        threads: As for `run_fits`.
        report: Called with finished and all folds.

    Shapes:
        features: (images, features) float32.
        labels, groups: (images,) integers.
        rows: (n,) integers.
    """
    rows = np.sort(np.asarray(rows, np.int64))
    own = labels[rows]
    folds = deal_folds(own, None if groups is None else groups[rows], seed=seed)
    x = np.asarray(features[rows], np.float32)
    random = np.random.default_rng(seed)
    parts = [
        (
            draw_rows(np.flatnonzero(folds != fold), own, MOST_FITTED, random),
            np.flatnonzero(folds == fold),
        )
        for fold in range(int(folds.max()) + 1)
    ]
    chosen = recipe or choose_recipe(x, own, *parts[0], threads=threads)

    def ask(part: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        others, held_out = part
        return fit_probe(x[others], own[others], chosen).ask(x[held_out], classes)

    told = run_fits(ask, parts, threads=threads, report=report)
    probabilities = np.zeros((len(rows), classes), np.float32)
    for (_, held_out), answers in zip(parts, told, strict=True):
        probabilities[held_out] = answers
    return Probed(rows, probabilities, chosen)
