"""Which dataset somebody means: a new one, one of a name, or one that is there."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared import dataset_store
from shared.errors import ConflictError
from shared.tables import Dataset
from web.auth.datastore import Account
from web.datasets import names

MAX_NUMBERED = 1000


@dataclass(frozen=True)
class Wish:
    """Which dataset is meant.

    Args:
        name: Asked for: taken or refused. A dataset of the user's own that no job
            could fill may have it.
        fallback: Made from the file: numbered until it is free.
        dataset_id: One that is there already.
    """

    name: str | None = None
    fallback: str = ""
    dataset_id: int | None = None


def dataset_for(session: Session, account: Account, wish: Wish) -> Dataset:
    """Returns the dataset that is meant, made where there is none.

    Raises:
        ConflictError: When another dataset has the name that was asked for.
        NotFoundError: When there is no such dataset.
    """
    if wish.dataset_id is not None:
        return dataset_store.get_dataset(session, wish.dataset_id)
    if wish.name is not None:
        # Of two requests at once the second waits here, and finds the job of the first.
        dataset_store.hold_name(session, wish.name)
        return find_given_up(
            session, account, wish.name
        ) or dataset_store.create_dataset(session, name=wish.name, owner_id=account.id)
    return dataset_store.create_dataset(
        session, name=_free_name(session, wish.fallback), owner_id=account.id
    )


def find_given_up(session: Session, account: Account, name: str) -> Dataset | None:
    """Returns the user's own dataset of this name that no job could fill, if any.

    Raises:
        ConflictError: When another dataset has the name.
    """
    found = dataset_store.find_given_up(session, name, account.id)
    if found is None and dataset_store.find_dataset_by_name(session, name):
        raise _taken(name)
    return found


def _free_name(session: Session, base: str) -> str:
    if dataset_store.find_dataset_by_name(session, base) is None:
        return base
    for number in range(2, MAX_NUMBERED):
        ending = f" {number}"
        name = base[: names.MAX_CHARACTERS - len(ending)] + ending
        if dataset_store.find_dataset_by_name(session, name) is None:
            return name
    raise _taken(base)


def _taken(name: str) -> ConflictError:
    return ConflictError(
        f"There is already a dataset called {name!r}. Choose another name.",
        field="name",
    )
