"""Linear probes: what a linear classifier makes of the features of a frozen base.

A logistic regression, whose penalty is chosen once per dataset. Its time grows with the
number of classes; where there are many, a discriminant analysis takes its place
(`discriminant`), whose time hardly does. Many probes are fitted at a time, each on one
thread: how BLAS splits its sums must not depend on the machine, and its threads would
wait for each other.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from worker.insight.discriminant import Discriminant, fit_discriminant

MOST_FITTED = 20_000  # rows of one fit; more make it slower, not better
_MOST_ITERATIONS = 200
# Inverse strengths of the penalty, on components scaled so that the first has
# variance 1.
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
_SMALLEST_PROBABILITY = 1e-7
# Rows times features times classes of one fit: some seconds of a core. A forecast fits
# about a hundred.
_MOST_PRODUCTS = 60_000_000

Task = TypeVar("Task")
Result = TypeVar("Result")
Report = Callable[[int, int], None]


def report_nothing(done: int, total: int) -> None:
    """Stands where nobody waits for news."""


@dataclass(frozen=True)
class Recipe:
    """How all probes of one dataset are fitted.

    Args:
        strength: Inverse strength of the penalty of a logistic regression. None for a
            discriminant analysis, whose shrinkage is reckoned from its rows.
    """

    strength: float | None


@dataclass(frozen=True)
class Probe:
    """A fitted linear classifier; one that has seen a single class always says it."""

    fitted: LogisticRegression | Discriminant | None
    only: int = 0

    def ask(self, x: np.ndarray, classes: int) -> np.ndarray:
        """Returns probabilities over all classes.

        Shapes:
            x: (n, features).
            result: (n, classes) float32.
        """
        told = np.zeros((len(x), classes), np.float32)
        if self.fitted is None:
            told[:, self.only] = 1
        else:
            told[:, self.fitted.classes_] = self.fitted.predict_proba(x)
        return told


def fit_probe(
    x: np.ndarray, labels: np.ndarray, recipe: Recipe, twice: np.ndarray | None = None
) -> Probe:
    """Fits one probe; call it within `run_fits`.

    Args:
        x: What it sees.
        labels: Class numbers.
        recipe: How.
        twice: Which rows count double. Defaults to none.

    Shapes:
        x: (n, features).
        labels: (n,) integers.
        twice: (n,) bool.
    """
    if len(np.unique(labels)) < 2:  # noqa: PLR2004 - nothing to tell apart
        return Probe(None, int(labels[0]) if len(labels) else 0)
    if recipe.strength is None:
        if twice is not None:
            x = np.concatenate([x, x[twice]])
            labels = np.concatenate([labels, labels[twice]])
        return Probe(fit_discriminant(x, labels))
    weights = None if twice is None else np.where(twice, 2.0, 1.0)
    fit = LogisticRegression(C=recipe.strength, max_iter=_MOST_ITERATIONS)
    return Probe(fit.fit(x, labels, sample_weight=weights))


def choose_recipe(
    x: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    threads: int | None = None,
) -> Recipe:
    """Returns the recipe under which held-out rows are most likely, of those in time.

    Args:
        x: What probes see.
        labels: Class numbers.
        train: Rows to fit on.
        held_out: Rows to judge by.
        threads: As for `run_fits`.

    Shapes:
        x: (n, features).
        labels: (n,) integers.
    """
    classes = int(labels.max()) + 1
    boundaries = classes if classes > 2 else 1  # noqa: PLR2004 - two share theirs
    if len(train) * x.shape[1] * boundaries > _MOST_PRODUCTS:
        return Recipe(None)
    recipes = [Recipe(strength) for strength in _STRENGTHS]

    def measure_loss(recipe: Recipe) -> float:
        told = fit_probe(x[train], labels[train], recipe).ask(x[held_out], classes)
        truths = told[np.arange(len(held_out)), labels[held_out]]
        return float(-np.log(np.maximum(truths, _SMALLEST_PROBABILITY)).mean())

    losses = run_fits(measure_loss, recipes, threads=threads)
    return recipes[int(np.argmin(losses))]


def run_fits(
    fit: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    threads: int | None = None,
    report: Report = report_nothing,
) -> list[Result]:
    """Calls `fit` for every task, several at a time; returns results in their order.

    Args:
        fit: Fits and asks one probe or a few.
        tasks: What it is called with.
        threads: Defaults to the cores that this process may use.
        report: Called in this thread with finished and all tasks.
    """
    threads = threads or len(os.sched_getaffinity(0))
    results = []
    # Both settings hold for the whole process: set in each thread, they would be
    # restored while others still rely on them.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with ThreadPoolExecutor(threads) as pool:
            for result in pool.map(fit, tasks):
                results.append(result)
                report(len(results), len(tasks))
    return results
