"""Which base models a forecast compares: those that were named, or its worker's."""

import math
from collections import Counter

from sqlalchemy.orm import Session

from shared import worker_store
from shared.base_models import BASE_MODELS, BaseModel
from shared.job_status import JobStatus
from shared.presets import build_training_spec
from shared.tables import Job, Worker

DEFAULT = build_training_spec().base_model  # it is always compared


def choose_base_models(
    asked: list[str] | None, ready: list[str], most: int
) -> list[str]:
    """Returns the base models to compare, the default one first.

    What we choose is a spread: three of one family would say little of all others.

    Args:
        asked: What the user named, all of which is compared: weights that are not here
            may be fetched, and what cannot be compared is told with the reason. None
            leaves it to us.
        ready: Those whose weights the worker has.
        most: Of those that we choose, in all.
    """
    if asked is not None:
        return list(dict.fromkeys([DEFAULT, *asked]))
    return [DEFAULT, *_spread(ready)][:most]


def list_compared(session: Session, job: Job, most: int) -> set[str]:
    """Returns the base models that a forecast job surely compares, whoever does it.

    What the worker that is at it has chosen is not known: it may have got weights
    since.

    Args:
        session: Any session.
        job: Waiting or at work.
        most: As for `choose_base_models`.
    """
    asked = job.spec.get("base_models")
    takers = worker_store.list_takers(session, job.kind, job.queue)
    if job.state == JobStatus.RUNNING or not takers:
        return {DEFAULT, *(asked or [])}
    return set.intersection(
        *(set(choose_base_models(asked, list_ready(worker), most)) for worker in takers)
    )


def list_ready(worker: Worker | None) -> list[str]:
    """Returns the base models whose weights a worker has told that it has."""
    return list((worker.base_models or {}).get("ready", [])) if worker else []


def _spread(ready: list[str]) -> list[str]:
    """Returns all but the default one, one of each family before a second of any.

    The family of the default one has its first already. Those that come together are
    ordered by how near they are to it in what a picture costs: of a network many times
    smaller or larger it is known beforehand which one is better, and at what price.
    """
    default = BASE_MODELS[DEFAULT]
    others = [BASE_MODELS[name] for name in BASE_MODELS.keys() & {*ready} - {DEFAULT}]
    taken = Counter([default.family.name])
    ranked = []
    distances = sorted((_distance(model, default), model.name) for model in others)
    for far, name in distances:
        family = BASE_MODELS[name].family.name
        ranked.append((taken[family], far, name))
        taken[family] += 1
    return [name for _, _, name in sorted(ranked)]


def _distance(one: BaseModel, other: BaseModel) -> float:
    """How unlike two are in what a picture costs: the logarithm of how many times."""
    return abs(math.log(_reckon_cost(one) / _reckon_cost(other)))


def _reckon_cost(model: BaseModel) -> int:
    """How much one picture asks of it, to put base models in order.

    A convolution uses each of its weights once for every place of the picture.
    """
    return model.parameters * model.native_size_px**2
