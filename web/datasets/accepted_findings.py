"""Findings that users have accepted: hidden from then on, in all versions."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from shared import dataset_store, finding_decision_store
from web.auth.datastore import Account
from web.datasets.findings import resolve
from web.datasets.forecast_view import find_state
from web.installation import Installation
from web.permissions import require_change


def accept(
    here: Installation,
    account: Account,
    dataset_id: int,
    keys: Sequence[str],
    version: int | None = None,
) -> int:
    """Accepts findings: they are hidden from now on, in all versions of the dataset.

    Args:
        here: The installation.
        account: Who accepts.
        dataset_id: The dataset.
        keys: Of findings of the newest forecast of the version.
        version: Its number. Defaults to the newest.

    Returns:
        How many had not been accepted before.

    Raises:
        NotAllowedError: When the dataset is somebody else's.
        NotFoundError: When there is no such dataset, version or forecast.
        ConflictError: When the newest forecast has no such finding.
    """
    with here.database.reading() as session:
        dataset = dataset_store.get_dataset(session, dataset_id)
        require_change(account, dataset, "dataset")
        forecast = find_state(session, dataset_id, version).require()
    kinds = {row.key: row.kind for row in resolve(here.storage, forecast, keys)}
    return record(here, account, dataset_id, kinds)


def record(
    here: Installation, account: Account, dataset_id: int, kinds: dict[str, str]
) -> int:
    """Notes that findings are fine, by key and kind; returns how many were not before.

    Raises:
        NotFoundError: When there is no such dataset.
    """

    def write(session: Session) -> int:
        dataset_store.get_dataset(session, dataset_id)
        return finding_decision_store.accept(
            session, dataset_id, kinds, actor=account.actor
        )

    return here.database.tx(write)


def take_back(
    here: Installation, account: Account, dataset_id: int, keys: Sequence[str]
) -> int:
    """Shows accepted findings again.

    Args:
        here: The installation.
        account: Who takes them back.
        dataset_id: The dataset.
        keys: Of findings; those that are not accepted are passed over.

    Returns:
        How many had been accepted.

    Raises:
        NotAllowedError: When the dataset is somebody else's.
        NotFoundError: When there is no such dataset.
    """

    def write(session: Session) -> int:
        dataset = dataset_store.get_dataset(session, dataset_id)
        require_change(account, dataset, "dataset")
        return finding_decision_store.take_back(
            session, dataset_id, keys, actor=account.actor
        )

    return here.database.tx(write)
