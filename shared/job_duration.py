"""How long a job will take, told by those that this installation has finished.

The cost of a training is counted in passes of one image through its base model, and the
seconds of a pass are learned from finished jobs that are as like it as any: first of
the same base model and image size, then of the same base model, then of any; where
there are some, those of the same worker.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.base_models import BASE_MODELS
from shared.job_status import JobKind

# Forward and backward pass against a forward pass alone: the backward one computes two
# products of the same size for each of the forward's (gradients of weights and inputs).
TRAINING_PASSES = 3.0
# Below this ratio between the largest and smallest cost a line through them says
# nothing of a job of another size, and time is taken to grow with cost.
LEAST_SPREAD = 1.5
MOST_REMEMBERED = 30  # newest finished jobs of one likeness
# A forecast of few pictures takes its time as well, to import and to fit: about what
# the base model takes for so many pictures more.
FORECAST_START = 1000
# Until one has been finished here. Unknown it must not stay: all that waits behind it
# would be unknown with it.
USUAL_FORECAST_SECONDS = 60.0


@dataclass(frozen=True)
class Work:
    """What a job has to do.

    Args:
        kind: Of the job.
        base_model: Of a training; None for other kinds.
        image_size_px: Side of its images; None for other kinds.
        cost: Passes of one image through the base; 1 for kinds that have none.
    """

    kind: str
    base_model: str | None = None
    image_size_px: int | None = None
    cost: float = 1.0


@dataclass(frozen=True)
class Finished:
    """A job that succeeded: what it had to do, on which worker, in how many seconds."""

    work: Work
    worker_id: int | None
    seconds: float


def measure_work(kind: str, spec: dict[str, Any], images: int | None) -> Work | None:
    """Returns the work of a job, or None when nothing can be told of it.

    Args:
        kind: Of the job.
        spec: What the job row holds: for trainings the training spec under `training`.
        images: Of its dataset version.
    """
    if kind == JobKind.FORECAST:
        return Work(kind, cost=FORECAST_START + (images or 0))
    if kind != JobKind.TRAIN:
        return Work(kind)
    training = spec.get("training") or {}
    base = BASE_MODELS.get(training.get("base_model", ""))
    if base is None or not images:
        return None
    views = training.get("feature_views", 1) if training.get("frozen_epochs") else 0
    tuned = TRAINING_PASSES * training.get("fine_tune_epochs", 0)
    # One more pass for evaluation, and for the proof of what was exported.
    passes = 1 + views + tuned
    size = training.get("image_size_px") or base.native_size_px
    return Work(kind, base.name, size, images * passes)


class Durations:
    """Estimates seconds of jobs from finished ones.

    Args:
        finished: The newest first.
    """

    def __init__(self, finished: Iterable[Finished]) -> None:
        self._alike: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(
            list
        )
        for job in finished:
            for key, cost in _likenesses(job.work):
                for owner in (None, job.worker_id):
                    known = self._alike[owner, key]
                    if len(known) < MOST_REMEMBERED:
                        known.append((cost, job.seconds))

    def estimate(self, work: Work | None, worker_id: int | None = None) -> float | None:
        """Returns the seconds that `work` will take; None when nobody can tell."""
        if work is None:
            return None
        for key, cost in _likenesses(work):
            for owner in (worker_id, None):
                if known := self._alike.get((owner, key)):
                    return _read_off(known, cost)
        return USUAL_FORECAST_SECONDS if work.kind == JobKind.FORECAST else None


def _likenesses(work: Work) -> list[tuple[tuple[Any, ...], float]]:
    """What to compare a job by, the closest likeness first, and its cost in each."""
    if work.base_model is None or work.image_size_px is None:
        return [((work.kind,), work.cost)]
    # Convolutions cost by the number of pixels, and networks about by their weights.
    pixels = work.cost * work.image_size_px**2
    weights = pixels * BASE_MODELS[work.base_model].parameters
    return [
        ((work.kind, work.base_model, work.image_size_px), work.cost),
        ((work.kind, work.base_model), pixels),
        ((work.kind,), weights),
    ]


def _read_off(known: list[tuple[float, float]], cost: float) -> float:
    costs, seconds = zip(*known, strict=True)
    if max(costs) > LEAST_SPREAD * min(costs):
        slope, start = statistics.linear_regression(costs, seconds)
        if slope > 0 and start > 0:
            return start + slope * cost
    return statistics.median(s / c for c, s in known) * cost
