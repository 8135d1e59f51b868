"""Deleting a job that has ended, with its attempts, checkpoints and log."""

from sqlalchemy.orm import Session

from shared import job_read_store, job_store
from shared.deletion import DeletionPlan
from web.auth.datastore import Account
from web.deleting import remove_files
from web.installation import Installation
from web.permissions import require_change


def plan_deletion(here: Installation, account: Account, job_id: int) -> DeletionPlan:
    """Returns what would go.

    Raises:
        NotFoundError: When there is no such job.
        NotAllowedError: When it is somebody else's.
    """
    with here.database.reading() as session:
        require_change(account, job_read_store.get_job(session, job_id), "job")
        return job_store.deletion_plan(session, job_id)


def delete_job(here: Installation, account: Account, job_id: int) -> DeletionPlan:
    """Deletes it and returns what went.

    Raises:
        ConflictError: While it has not ended.
        NotFoundError: When there is no such job.
        NotAllowedError: When it is somebody else's.
    """

    def write(session: Session) -> DeletionPlan:
        require_change(account, job_read_store.get_job(session, job_id), "job")
        return job_store.delete_job(session, job_id, actor=account.actor)

    plan = here.database.tx(write)
    remove_files(here, plan)
    return plan
