"""What the pages and the API show of receivers and of what was sent to them."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared.notifications import delivery_store, receiver_store
from shared.notifications.event_store import Channel
from shared.notifications.tables import Delivery, DeliveryTry, Receiver
from shared.pages import Page
from web.auth.datastore import Account


@dataclass(frozen=True)
class ReceiverRow:
    """One receiver.

    Args:
        id: Its number.
        channel: `webhook` or `email`.
        address: Where it is sent.
        kinds: Of events.
        everyones: Whether it hears of others' jobs too.
        active: Whether anything is sent.
        problem: Why nothing is.
        created_at: In milliseconds.
        delivered: How many events have been taken.
        waiting: How many are on their way.
        given_up: How many were not taken.
    """

    id: int
    channel: str
    address: str
    kinds: list[str]
    everyones: bool
    active: bool
    problem: str | None
    created_at: int
    delivered: int
    waiting: int
    given_up: int


@dataclass(frozen=True)
class TryRow:
    """One try of a delivery."""

    number: int
    at: int
    took_ms: int
    status: int | None
    answer: str


@dataclass(frozen=True)
class DeliveryRow:
    """One event on its way to one receiver.

    Args:
        id: Its number.
        event_id: The event id that the receiver sees.
        kind: What happened.
        at: When, in milliseconds.
        job_id: To which job; None: a test.
        title: Of the job.
        state: `waiting`, `delivered` or `given_up`.
        due_at: When it is tried next.
        tries: With their answers, the last one first.
    """

    id: int
    event_id: str
    kind: str
    at: int
    job_id: int | None
    title: str | None
    state: str
    due_at: int | None
    tries: list[TryRow]


def list_receivers(session: Session, account: Account) -> list[ReceiverRow]:
    """Returns a user's receivers with what was sent to each."""
    receivers = receiver_store.list_of(session, account.id)
    counts = delivery_store.count_states(session, [row.id for row in receivers])
    return [make_receiver(row, account, counts[row.id]) for row in receivers]


def make_receiver(
    row: Receiver, account: Account, counts: dict[str, int] | None = None
) -> ReceiverRow:
    """Returns what is shown of a receiver of this account's."""
    counts = counts or {}
    mail = row.channel == Channel.EMAIL
    return ReceiverRow(
        id=row.id,
        channel=row.channel,
        address=account.email if mail else row.address,
        kinds=list(row.kinds),
        everyones=row.everyones,
        active=row.active,
        problem=row.problem,
        created_at=row.created_at,
        delivered=counts.get(delivery_store.DELIVERED, 0),
        waiting=counts.get(delivery_store.WAITING, 0),
        given_up=counts.get(delivery_store.GIVEN_UP, 0),
    )


def list_deliveries(
    session: Session, receiver_id: int, page: int, page_size: int
) -> Page[DeliveryRow]:
    """Returns one page of what was sent to a receiver, the newest first."""
    found = delivery_store.list_deliveries(
        session, receiver_id, page=page, page_size=page_size
    )
    tries = delivery_store.list_tries(session, [row.id for row in found.items])
    rows = [_make_delivery(row, tries[row.id]) for row in found.items]
    return Page(rows, found.total, found.page, found.page_size)


def _make_delivery(row: Delivery, tries: list[DeliveryTry]) -> DeliveryRow:
    facts: dict[str, Any] = row.event.facts
    return DeliveryRow(
        id=row.id,
        event_id=row.event.key,
        kind=row.event.kind,
        at=row.event.at,
        job_id=row.event.job_id,
        title=facts.get("title"),
        state=row.state,
        due_at=row.due_at if row.state == delivery_store.WAITING else None,
        tries=[
            TryRow(one.number, one.at, one.took_ms, one.status, one.answer)
            for one in tries
        ],
    )
