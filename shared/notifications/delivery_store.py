"""Deliveries: which are due, who has taken them, and what was answered.

Taking one puts its next try off, so that nobody else takes it meanwhile and somebody
does when this process dies: every delivery is tried until it is answered.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, joinedload

from shared.database import now_ms, read_clock
from shared.errors import ConflictError, NotFoundError
from shared.notifications.event_store import Channel
from shared.notifications.tables import Delivery, DeliveryTry, Event, Receiver
from shared.pages import Page, read_page
from shared.sql_dialect import insert
from shared.tables import User

WAITING, DELIVERED, GIVEN_UP = "waiting", "delivered", "given_up"
# Three times the wait before each further try, up to six hours: with ten seconds first,
# the twelfth comes a good day after the first.
MAX_TRIES = 12
GROWTH = 3
LONGEST_WAIT_SECONDS = 6 * 3600.0
PER_USER = 4  # webhooks of one user taken at once: receivers that hang hold few up
LETTERS = 16  # receivers to whom mail is sent at once
FORGOTTEN_AT_ONCE = 500
ANSWER_CHARACTERS = 1_000
KEPT_MS = 30 * 86_400_000


@dataclass(frozen=True)
class Due:
    """A delivery that this process has taken.

    Args:
        delivery_id: Its number.
        number: Of this try, from 1.
        receiver_id: To whom.
        channel: `webhook` or `email`.
        address: Of the webhook, or of the receiver's owner.
        salt: Of the receiver's secret.
        key: The event id.
        kind: What happened.
        at: When, in milliseconds since 1970.
        facts: About the job.
    """

    delivery_id: int
    number: int
    receiver_id: int
    channel: str
    address: str
    salt: str
    key: str
    kind: str
    at: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came of a try.

    Args:
        good: Whether it was taken.
        text: What was answered, or why nothing was.
        status: Of HTTP or SMTP.
        took_ms: How long it took.
        unwanted: The receiver wants nothing any more.
    """

    good: bool
    text: str
    status: int | None = None
    took_ms: int = 0
    unwanted: bool = False


def list_due(session: Session, channel: Channel, limit: int) -> list[int]:
    """Returns deliveries to be taken next.

    Of webhooks few of each user, and of each receiver in turn; mail by receiver, with
    all that is new for the same one.

    Args:
        session: Any session.
        channel: Which.
        limit: At most so many.
    """
    if channel == Channel.EMAIL:
        return _list_due_mail(session, limit)
    turn = func.row_number().over(
        partition_by=Delivery.receiver_id, order_by=(Delivery.due_at, Delivery.id)
    )
    due = (
        _open(Channel.WEBHOOK)
        .add_columns(Receiver.owner_id, turn.label("turn"))
        .where(Delivery.due_at <= now_ms())
        .subquery()
    )
    of_user = func.row_number().over(
        partition_by=due.c.owner_id, order_by=(due.c.turn, due.c.due_at, due.c.id)
    )
    ranked = select(due.c.id, due.c.due_at, of_user.label("of_user")).subquery()
    query = (
        select(ranked.c.id)
        .where(ranked.c.of_user <= PER_USER)
        .order_by(ranked.c.of_user, ranked.c.due_at, ranked.c.id)
        .limit(limit)
    )
    return list(session.scalars(query))


def _list_due_mail(session: Session, limit: int) -> list[int]:
    due = (
        _open(Channel.EMAIL)
        .with_only_columns(Delivery.receiver_id)
        .where(Delivery.due_at <= now_ms())
        .distinct()
        .limit(LETTERS)
    )
    receivers = list(session.scalars(due))
    query = (
        _open(Channel.EMAIL)
        .where(
            Delivery.receiver_id.in_(receivers),
            (Delivery.due_at <= now_ms()) | (Delivery.tries == 0),
        )
        .order_by(Delivery.id)
        .limit(limit)
    )
    return list(session.scalars(query))


def _open(channel: Channel) -> Any:
    """Returns the query of what waits for receivers that are to hear."""
    return (
        select(Delivery.id, Delivery.due_at)
        .join(Receiver, Receiver.id == Delivery.receiver_id)
        .join(User, User.id == Receiver.owner_id)
        .where(
            Delivery.state == WAITING,
            Receiver.channel == channel,
            Receiver.active,
            User.active,
        )
    )


def take(session: Session, numbers: list[int], hold_ms: int) -> list[Due]:
    """Takes deliveries of `list_due`; nobody else takes them for `hold_ms`.

    Those that somebody else has taken meanwhile are left out.
    """
    numbers = list(
        session.scalars(
            select(Delivery.id)
            .where(
                Delivery.id.in_(numbers),
                Delivery.state == WAITING,
                (Delivery.due_at <= now_ms()) | (Delivery.tries == 0),
            )
            .with_for_update(skip_locked=True)
        )
    )
    if not numbers:
        return []
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(numbers))
        .values(tries=Delivery.tries + 1, due_at=now_ms() + hold_ms)
        .execution_options(synchronize_session=False)
    )
    rows = session.execute(
        select(Delivery, Receiver, Event, User.email)
        .join(Receiver, Receiver.id == Delivery.receiver_id)
        .join(Event, Event.id == Delivery.event_id)
        .join(User, User.id == Receiver.owner_id)
        .where(Delivery.id.in_(numbers))
        .order_by(Delivery.id)
        .execution_options(populate_existing=True)
    )
    return [_make_due(*row) for row in rows]


def _make_due(delivery: Delivery, receiver: Receiver, event: Event, email: str) -> Due:
    mail = receiver.channel == Channel.EMAIL
    return Due(
        delivery_id=delivery.id,
        number=delivery.tries,
        receiver_id=receiver.id,
        channel=receiver.channel,
        address=email if mail else receiver.address,
        salt=receiver.salt,
        key=event.key,
        kind=event.kind,
        at=event.at,
        facts=event.facts,
    )


def record_try(
    session: Session, due: Due, answer: Answer, first_wait_seconds: float
) -> str:
    """Keeps what was answered; returns what becomes of the delivery.

    Recorded twice it is kept once. A try that counts as lost, because its answer came
    after somebody else took the delivery, ends it all the same when it was good. Of a
    delivery that is gone nothing is kept.
    """
    held = select(Delivery.id).where(Delivery.id == due.delivery_id).with_for_update()
    if session.scalar(held) is None:
        return GIVEN_UP
    now = read_clock(session)
    session.execute(
        insert(session, DeliveryTry)
        .values(
            delivery_id=due.delivery_id,
            number=due.number,
            at=now - answer.took_ms,
            took_ms=answer.took_ms,
            status=answer.status,
            answer=answer.text[:ANSWER_CHARACTERS],
        )
        .on_conflict_do_nothing(index_elements=["delivery_id", "number"])
    )
    state = DELIVERED if answer.good else WAITING
    if not answer.good and (answer.unwanted or due.number >= MAX_TRIES):
        state = GIVEN_UP
    mine = (Delivery.id == due.delivery_id) & (Delivery.state == WAITING)
    if not answer.good:
        mine &= Delivery.tries == due.number
    session.execute(
        update(Delivery)
        .where(mine)
        .values(
            state=state,
            due_at=now + wait_ms(due.number, first_wait_seconds),
            ended_at=None if state == WAITING else now,
        )
        .execution_options(synchronize_session=False)
    )
    return state


def wait_ms(tries: int, first_wait_seconds: float) -> int:
    """Returns the wait after so many tries."""
    seconds = first_wait_seconds * GROWTH ** min(tries - 1, 20)
    return int(1000 * min(seconds, LONGEST_WAIT_SECONDS))


def list_deliveries(
    session: Session, receiver_id: int, *, page: int = 1, page_size: int = 50
) -> Page[Delivery]:
    """Returns one page of what was sent to a receiver, the newest first."""
    query = (
        select(Delivery)
        .where(Delivery.receiver_id == receiver_id)
        .options(joinedload(Delivery.event))
        .order_by(Delivery.id.desc())
    )
    return read_page(session, query, page, page_size)


def list_tries(
    session: Session, delivery_ids: list[int]
) -> dict[int, list[DeliveryTry]]:
    """Returns the tries of these deliveries, the last one first."""
    found: dict[int, list[DeliveryTry]] = {number: [] for number in delivery_ids}
    rows = session.scalars(
        select(DeliveryTry)
        .where(DeliveryTry.delivery_id.in_(delivery_ids))
        .order_by(DeliveryTry.delivery_id, DeliveryTry.number.desc())
    )
    for row in rows:
        found[row.delivery_id].append(row)
    return found


def count_states(
    session: Session, receiver_ids: list[int]
) -> dict[int, dict[str, int]]:
    """Returns how many deliveries of each receiver are in each state."""
    found: dict[int, dict[str, int]] = {number: {} for number in receiver_ids}
    rows = session.execute(
        select(Delivery.receiver_id, Delivery.state, func.count())
        .where(Delivery.receiver_id.in_(receiver_ids))
        .group_by(Delivery.receiver_id, Delivery.state)
    )
    for receiver_id, state, count in rows:
        found[receiver_id][state] = count
    return found


def get(session: Session, delivery_id: int) -> Delivery:
    """Returns a delivery.

    Raises:
        NotFoundError: When there is none.
    """
    found = session.get(Delivery, delivery_id, populate_existing=True)
    if found is None:
        raise NotFoundError(f"There is no delivery {delivery_id}.")
    return found


def send_again(session: Session, delivery_id: int) -> None:
    """Makes a delivery due at once that has ended, or waits for its next try.

    Raises:
        ConflictError: When its receiver is switched off.
        NotFoundError: When there is none.
    """
    delivery = get(session, delivery_id)
    if not session.get_one(Receiver, delivery.receiver_id).active:
        raise ConflictError("Its receiver is switched off. Add it again first.")
    session.execute(
        update(Delivery)
        .where(Delivery.id == delivery_id)
        .values(state=WAITING, due_at=now_ms(), ended_at=None)
        .execution_options(synchronize_session=False)
    )


def forget_old(session: Session) -> int:
    """Deletes some events that nothing has been sent of for a month.

    Returns:
        How many; 0 when no more are left.
    """
    sent_lately = select(Delivery.id).where(
        Delivery.event_id == Event.id, Delivery.ended_at > now_ms() - KEPT_MS
    )
    old = session.scalars(
        select(Event.id)
        .where(Event.at < now_ms() - KEPT_MS, ~sent_lately.exists())
        .limit(FORGOTTEN_AT_ONCE)
    ).all()
    session.execute(delete(Event).where(Event.id.in_(old)))
    return len(old)
