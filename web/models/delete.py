"""Deleting a model version; its number is never given again."""

from sqlalchemy.orm import Session

from shared import model_store
from shared.deletion import DeletionPlan
from web.auth.datastore import Account
from web.deleting import remove_files
from web.installation import Installation
from web.models.view import find_row
from web.permissions import require_change


def plan_deletion(
    here: Installation, account: Account, name: str, version: str
) -> DeletionPlan:
    """Returns what would go.

    Raises:
        NotFoundError: When there is no such version.
        NotAllowedError: When the model is somebody else's.
    """
    with here.database.reading() as session:
        row = find_row(session, name, version)
        require_change(account, row, "model")
        return model_store.deletion_plan(session, name, row.version)


def delete_version(
    here: Installation, account: Account, name: str, version: str
) -> DeletionPlan:
    """Deletes it and returns what went; raises as `plan_deletion` does."""

    def write(session: Session) -> DeletionPlan:
        row = find_row(session, name, version)
        require_change(account, row, "model")
        return model_store.delete_version(
            session, name, row.version, actor=account.actor
        )

    plan = here.database.tx(write)
    remove_files(here, plan)
    return plan
