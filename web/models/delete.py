"""Deleting a model version; its number is never given again."""

from dataclasses import replace

from sqlalchemy.orm import Session

from shared import model_store
from shared.deletion import DeletionPlan
from web.auth.datastore import Account
from web.deleting import remove_files
from web.installation import Installation
from web.models.view import find_row
from web.permissions import require_change

# Between a file's writing and the record of its version; also for clocks that differ.
_TAKEN_UP_MS = 5_000


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

    def write(session: Session) -> tuple[DeletionPlan, int]:
        row = find_row(session, name, version)
        require_change(account, row, "model")
        plan = model_store.delete_version(
            session, name, row.version, actor=account.actor
        )
        return plan, row.created_at

    plan, made_at = here.database.tx(write)
    ours = [path for path in plan.paths if not _is_taken_up(here, path, made_at)]
    remove_files(here, replace(plan, paths=ours))
    return plan


def _is_taken_up(here: Installation, rel_path: str, made_at: int) -> bool:
    """Whether a job that publishes the same content at this moment counts on a file.

    It refreshes the file's time and names it only when it commits. What nobody names
    after all is left to garbage collection.
    """
    try:
        touched_at = here.storage.resolve(rel_path).stat().st_mtime * 1000
    except OSError:
        return False
    return touched_at > made_at + _TAKEN_UP_MS
