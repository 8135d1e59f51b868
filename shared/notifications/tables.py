"""The records of notifications: receivers, events, deliveries and their tries."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared.tables import NEVER_REUSE_IDS, Base, BigId, User


class Receiver(Base):
    """Where a user wants to hear of jobs."""

    __tablename__ = "receivers"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    channel: Mapped[str]  # webhook | email
    address: Mapped[str]  # of the webhook; e-mail goes to the owner's own
    kinds: Mapped[list[Any]]  # of events
    everyones: Mapped[bool] = mapped_column(default=False)  # also others' jobs
    salt: Mapped[str]  # what the secret is made of, with the installation's key
    active: Mapped[bool] = mapped_column(default=True)
    problem: Mapped[str | None]  # why it was switched off
    created_at: Mapped[int]
    owner: Mapped[User] = relationship(viewonly=True, lazy="raise")
    __table_args__ = (
        UniqueConstraint("owner_id", "channel", "address"),
        CheckConstraint("channel IN ('webhook','email')", name="channel"),
        NEVER_REUSE_IDS,
    )


class Event(Base):
    """Something that happened to a job, as it was told."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)  # the event id that receivers see
    kind: Mapped[str]
    # No foreign key: what was told stays told when the job is deleted.
    job_id: Mapped[int | None]  # null: a test
    fence: Mapped[int | None]
    at: Mapped[int]
    facts: Mapped[dict[str, Any]]
    __table_args__ = (UniqueConstraint("job_id", "fence", "kind"), NEVER_REUSE_IDS)


class Delivery(Base):
    """One event on its way to one receiver."""

    __tablename__ = "deliveries"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    receiver_id: Mapped[int] = mapped_column(
        ForeignKey("receivers.id", ondelete="CASCADE")
    )
    state: Mapped[str] = mapped_column(default="waiting")
    tries: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[int]  # while one is under way: when it counts as lost
    ended_at: Mapped[int | None]
    event: Mapped[Event] = relationship(viewonly=True, lazy="raise")
    __table_args__ = (
        UniqueConstraint("event_id", "receiver_id"),
        CheckConstraint("state IN ('waiting','delivered','given_up')", name="state"),
        Index("ix_deliveries_due", "state", "due_at"),
        Index("ix_deliveries_receiver", "receiver_id", "id"),
        NEVER_REUSE_IDS,
    )


class DeliveryTry(Base):
    """One try of a delivery and what was answered."""

    __tablename__ = "delivery_tries"
    delivery_id: Mapped[int] = mapped_column(
        ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)  # from 1
    at: Mapped[int]
    took_ms: Mapped[int]
    status: Mapped[int | None]  # of HTTP or SMTP; null: no answer came
    answer: Mapped[str]
