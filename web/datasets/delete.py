"""Deleting a dataset with its versions, uploads and packs."""

from sqlalchemy.orm import Session

from shared import dataset_delete_store, dataset_store
from shared.deletion import DeletionPlan
from web.auth.datastore import Account
from web.deleting import remove_files
from web.installation import Installation
from web.permissions import require_change


def plan_deletion(
    here: Installation, account: Account, dataset_id: int
) -> DeletionPlan:
    """Returns what would go.

    Raises:
        NotFoundError: When there is no such dataset.
        NotAllowedError: When it is somebody else's.
    """
    with here.database.reading() as session:
        _require(session, account, dataset_id)
        return dataset_delete_store.deletion_plan(session, dataset_id)


def delete_dataset(
    here: Installation, account: Account, dataset_id: int
) -> DeletionPlan:
    """Deletes it and returns what went.

    Raises:
        ConflictError: While jobs work on it.
        NotFoundError: When there is no such dataset.
        NotAllowedError: When it is somebody else's.
    """

    def write(session: Session) -> DeletionPlan:
        _require(session, account, dataset_id)
        return dataset_delete_store.delete_dataset(
            session, dataset_id, actor=account.actor
        )

    plan = here.database.tx(write)
    remove_files(here, plan)
    return plan


def _require(session: Session, account: Account, dataset_id: int) -> None:
    dataset = dataset_store.get_dataset(session, dataset_id)
    require_change(account, dataset, "dataset")
