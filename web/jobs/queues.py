"""Pausing and resuming a whole queue."""

from sqlalchemy.orm import Session

from shared import queue, queue_pause_store
from shared.job_status import JobKind
from shared.queue_pause_store import QueueState
from web.auth.datastore import Account
from web.installation import Installation
from web.permissions import require_admin


def pause(
    here: Installation, account: Account, name: str, *, running_too: bool = False
) -> list[int]:
    """Starts no more jobs from a queue; returns the running ones asked to stop.

    Raises:
        NotAllowedError: For members.
        UserError: When the name can be no queue's.
    """
    require_admin(account)
    return here.database.tx(
        lambda session: queue_pause_store.pause(
            session, name, actor=account.actor, running_too=running_too
        )
    )


def resume(
    here: Installation, account: Account, name: str, *, paused_too: bool = False
) -> list[int]:
    """Starts jobs from a queue again; returns the paused ones that were put back.

    Raises:
        NotAllowedError: For members.
    """
    require_admin(account)

    def write(session: Session) -> list[int]:
        return queue_pause_store.resume(
            session, name, actor=account.actor, paused_too=paused_too
        )

    resumed = here.database.tx(write)
    for kind in (JobKind.TRAIN, JobKind.FORECAST, JobKind.INGEST):
        queue.ring(kind)
    return resumed


def list_queues(here: Installation) -> list[QueueState]:
    """Returns every queue with what is in it."""
    with here.database.reading() as session:
        return queue_pause_store.list_queues(session)
