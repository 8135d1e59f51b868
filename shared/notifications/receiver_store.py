"""Receivers: where a user wants to hear of jobs. Stores never check who asks."""

import secrets

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from shared.database import now_ms
from shared.errors import ConflictError, NotFoundError
from shared.notifications.event_store import Channel, EventKind
from shared.notifications.tables import Delivery, Receiver
from shared.sql_dialect import insert

MOST = 20  # receivers of one user
SALT_BYTES = 24


def add(
    session: Session,
    *,
    owner_id: int,
    channel: Channel,
    address: str,
    kinds: list[EventKind],
    everyones: bool,
) -> Receiver:
    """Adds a receiver; asked for a second time, it is the same one with these kinds.

    Raises:
        ConflictError: When the user has as many as one may have.
    """
    count = session.scalar(
        select(func.count()).select_from(Receiver).where(Receiver.owner_id == owner_id)
    )
    known = session.scalar(
        select(Receiver.id).where(
            Receiver.owner_id == owner_id,
            Receiver.channel == channel,
            Receiver.address == address,
        )
    )
    if known is None and (count or 0) >= MOST:
        raise ConflictError(
            f"You have {MOST} receivers, and more are not allowed. Remove one first."
        )
    values = {"kinds": list(kinds), "everyones": everyones, "active": True}
    number = session.scalar(
        insert(session, Receiver)
        .values(
            owner_id=owner_id,
            channel=channel,
            address=address,
            salt=secrets.token_hex(SALT_BYTES),
            created_at=now_ms(),
            **values,
        )
        .on_conflict_do_update(
            index_elements=["owner_id", "channel", "address"],
            set_={**values, "problem": None},
        )
        .returning(Receiver.id)
    )
    return get(session, number or 0)


def get(session: Session, receiver_id: int) -> Receiver:
    """Returns a receiver.

    Raises:
        NotFoundError: When there is none.
    """
    found = session.get(Receiver, receiver_id, populate_existing=True)
    if found is None:
        raise NotFoundError(f"There is no receiver {receiver_id}.")
    return found


def list_of(session: Session, owner_id: int) -> list[Receiver]:
    """Returns the receivers of a user, the oldest first."""
    query = select(Receiver).where(Receiver.owner_id == owner_id).order_by(Receiver.id)
    return list(session.scalars(query))


def remove(session: Session, receiver_id: int) -> None:
    """Removes a receiver with its deliveries; one that is gone already stays gone."""
    session.execute(delete(Receiver).where(Receiver.id == receiver_id))


def switch_off(session: Session, receiver_id: int, problem: str) -> None:
    """Sends nothing more to a receiver that wants nothing more."""
    session.execute(
        update(Delivery)
        .where(Delivery.receiver_id == receiver_id, Delivery.state == "waiting")
        .values(state="given_up", ended_at=now_ms())
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(Receiver)
        .where(Receiver.id == receiver_id)
        .values(active=False, problem=problem)
    )
