"""What happened to jobs, written down in the transaction in which it happened."""

import secrets
from enum import StrEnum
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy import insert as plain_insert
from sqlalchemy.orm import Session

from shared.database import read_clock
from shared.errors import ConflictError
from shared.notifications.tables import Delivery, Event, Receiver
from shared.sql_dialect import in_parts, insert
from shared.tables import Dataset, Job, Model, ModelVersion, User

KEY_BYTES = 16
# Mail waits so long for what comes at once, and so long after the last one: a thousand
# jobs that end one after the other are a few mails.
MAIL_WAIT_MS = 20_000
MAIL_PAUSE_MS = 600_000
ADMIN = "admin"


class EventKind(StrEnum):
    """What a receiver may hear of."""

    FINISHED = "job.finished"
    FAILED = "job.failed"
    STALLED = "job.stalled"
    TEST = "test"


class Channel(StrEnum):
    """How a receiver hears of it."""

    WEBHOOK = "webhook"
    EMAIL = "email"


def announce(
    session: Session, job_id: int, kind: EventKind, *, reason: str | None = None
) -> None:
    """Writes an event for whoever wants to hear of it, once per attempt and kind.

    Without a receiver nothing is written.

    Args:
        session: The writing session of what happened, after it was written.
        job_id: To which job.
        kind: What.
        reason: Why. Defaults to the job's own.
    """
    job = session.execute(select(Job.owner_id, Job.fence).where(Job.id == job_id)).one()
    receivers = _list_receivers(session, job.owner_id, kind)
    if not receivers:
        return
    now = read_clock(session)
    event_id = session.scalar(
        insert(session, Event)
        .values(
            key=make_key(),
            kind=kind,
            job_id=job_id,
            fence=job.fence,
            at=now,
            facts=_describe(session, job_id, reason),
        )
        .on_conflict_do_nothing(index_elements=["job_id", "fence", "kind"])
        .returning(Event.id)
    )
    if event_id is not None:
        send_to(session, event_id, receivers, now)


def announce_test(session: Session, receiver: Receiver) -> int:
    """Writes a test event for one receiver; returns the number of its delivery.

    Raises:
        ConflictError: While an earlier test is on its way.
    """
    waiting = session.scalar(
        select(Delivery.id)
        .join(Event, Event.id == Delivery.event_id)
        .where(
            Delivery.receiver_id == receiver.id,
            Delivery.state == "waiting",
            Event.kind == EventKind.TEST,
        )
        .limit(1)
    )
    if waiting is not None:
        raise ConflictError("A test is on its way already; see its answer first.")
    now = read_clock(session)
    event = Event(
        key=make_key(),
        kind=EventKind.TEST,
        at=now,
        facts={"message": "A test: what is sent here arrives."},
    )
    session.add(event)
    session.flush()
    delivery = Delivery(event_id=event.id, receiver_id=receiver.id, due_at=now)
    session.add(delivery)
    session.flush()
    return delivery.id


def make_key() -> str:
    """Returns a new event id."""
    return f"evt_{secrets.token_hex(KEY_BYTES)}"


def send_to(
    session: Session, event_id: int, receivers: list[tuple[int, str]], now: int
) -> None:
    """Adds a delivery of the event for each of these (receiver, channel)."""
    mails = [number for number, channel in receivers if channel == Channel.EMAIL]
    last = _list_last_sent(session, mails)
    rows = [
        {
            "event_id": event_id,
            "receiver_id": number,
            "state": "waiting",
            "tries": 0,
            "due_at": now
            if channel == Channel.WEBHOOK
            else max(now + MAIL_WAIT_MS, last.get(number, 0) + MAIL_PAUSE_MS),
        }
        for number, channel in receivers
    ]
    for some in in_parts(rows):
        session.execute(plain_insert(Delivery).values(some))


def _list_last_sent(session: Session, receiver_ids: list[int]) -> dict[int, int]:
    """Returns when each of these receivers was last sent something."""
    if not receiver_ids:
        return {}
    rows = session.execute(
        select(Delivery.receiver_id, func.max(Delivery.ended_at))
        .where(Delivery.receiver_id.in_(receiver_ids), Delivery.ended_at.is_not(None))
        .group_by(Delivery.receiver_id)
    )
    return {number: at for number, at in rows if at is not None}


def _list_receivers(
    session: Session, owner_id: int, kind: EventKind
) -> list[tuple[int, str]]:
    """Returns (number, channel) of who hears of this kind of event of this owner's."""
    rows = session.execute(
        select(Receiver.id, Receiver.channel, Receiver.kinds)
        .join(User, User.id == Receiver.owner_id)
        .where(
            Receiver.active,
            User.active,
            # Whoever was an admin once hears of others' jobs no longer.
            or_(
                Receiver.owner_id == owner_id,
                Receiver.everyones & (User.role == ADMIN),
            ),
        )
        .order_by(Receiver.id)
        # Removed meanwhile, one would take the end of the attempt down with it.
        .with_for_update(read=True, key_share=True, of=Receiver)
    )
    return [(row.id, row.channel) for row in rows if kind in row.kinds]


def _describe(session: Session, job_id: int, reason: str | None) -> dict[str, Any]:
    row = session.execute(
        select(
            Job.id, Job.kind, Job.title, Job.state, Job.reason, Job.group_key,
            Job.attempts, Job.running_ms, Job.result,
            User.email, Dataset.name.label("dataset"),
            Model.name.label("model"), ModelVersion.version,
        )
        .join(User, User.id == Job.owner_id)
        .outerjoin(Dataset, Dataset.id == Job.dataset_id)
        .outerjoin(Model, Model.id == Job.model_id)
        .outerjoin(ModelVersion, ModelVersion.job_id == Job.id)
        .where(Job.id == job_id)
        .limit(1)
    ).one()  # fmt: skip
    facts = {
        "job_id": row.id,
        "job_kind": row.kind,
        "title": row.title,
        "state": row.state,
        "reason": reason or row.reason,
        "submission": row.group_key,
        "owner": row.email,
        "dataset": row.dataset,
        "attempts": row.attempts,
        "running_seconds": round(row.running_ms / 1000, 1),
    }
    if row.version is not None:
        accuracy = (row.result or {}).get("accuracy")
        facts |= {"model": row.model, "version": row.version, "accuracy": accuracy}
    return facts
