"""What the page and the API show of the audit: one page of lines, names for numbers."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared import audit_store, user_store
from shared.pages import Page
from shared.tables import Audit

USER = "user"
TYPES = ("job", "group", "queue", "dataset", "model", "worker", "user", "receiver")


@dataclass(frozen=True)
class Line:
    """One line of the audit.

    Args:
        id: Its number; they rise.
        at: When, in milliseconds since 1970.
        actor: Who, as the record has it: `user:3`, `worker:1`, `reconciler`.
        who: The same for people: a user by name.
        event: What was done.
        object_type: To what kind of object.
        object_id: To which one.
        detail: What else is on record.
    """

    id: int
    at: int
    actor: str
    who: str
    event: str
    object_type: str
    object_id: str
    detail: dict[str, Any] | None

    @property
    def told(self) -> str:
        """The details in one line."""
        known = (self.detail or {}).items()
        return ", ".join(
            f"{name}: {value}" for name, value in known if value is not None
        )


def list_lines(session: Session, **filters: Any) -> Page[Line]:
    """Returns one page of the audit: `audit_store.list_events` with names."""
    found = audit_store.list_events(session, **filters)
    names = user_store.list_names(session, _user_ids(found.items))
    lines = [_make_line(row, names) for row in found.items]
    return Page(lines, found.total, found.page, found.page_size)


def _user_ids(rows: list[Audit]) -> set[int]:
    return {number for row in rows if (number := _user_id(row.actor)) is not None}


def _user_id(actor: str) -> int | None:
    kind, _, number = actor.partition(":")
    return int(number) if kind == USER and number.isdecimal() else None


def _make_line(row: Audit, names: dict[int, str]) -> Line:
    number = _user_id(row.actor)
    return Line(
        id=row.id,
        at=row.at,
        actor=row.actor,
        who=row.actor if number is None else names.get(number, row.actor),
        event=row.event,
        object_type=row.object_type,
        object_id=row.object_id,
        detail=row.detail,
    )
