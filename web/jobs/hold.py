"""Why a job that waits is not started, where that is no matter of its turn."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared import queue_pause_store, worker_store
from shared.job_status import JobStatus
from shared.tables import Job


@dataclass(frozen=True)
class Hold:
    """What holds a job up: the pause of its queue, else that no worker serves it."""

    sentence: str
    is_paused: bool


def tell_hold(session: Session, job: Job) -> Hold | None:
    """Returns what holds a queued job up; None where it is started in its turn.

    Args:
        session: Any session.
        job: In whatever state.
    """
    if job.state != JobStatus.QUEUED:
        return None
    if job.queue in queue_pause_store.list_paused(session):
        words = f"The queue {job.queue} is paused: none of its jobs is started."
        return Hold(words, is_paused=True)
    if worker_store.list_takers(session, job.kind, job.queue):
        return None
    words = (
        f"No worker is here that does such jobs of the queue {job.queue}, so nothing "
        "starts."
    )
    return Hold(words, is_paused=False)
