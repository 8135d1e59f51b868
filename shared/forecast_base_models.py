"""Which base models a forecast compares: those that were named, or its worker's."""

from sqlalchemy.orm import Session

from shared import worker_store
from shared.base_models import BASE_MODELS
from shared.job_status import JobStatus
from shared.presets import build_training_spec
from shared.tables import Job, Worker

DEFAULT = build_training_spec().base_model  # it is always compared


def choose_base_models(
    asked: list[str] | None, ready: list[str], most: int
) -> list[str]:
    """Returns the base models to compare, the default one first.

    Args:
        asked: What the user named, all of which is compared: weights that are not here
            may be fetched, and what cannot be compared is told with the reason. None
            leaves it to us.
        ready: Those whose weights the worker has.
        most: Of those that we choose, in all.
    """
    if asked is not None:
        return list(dict.fromkeys([DEFAULT, *asked]))
    others = [name for name in BASE_MODELS if name in ready and name != DEFAULT]
    return [DEFAULT, *others][:most]


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
