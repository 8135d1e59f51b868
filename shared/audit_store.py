"""The audit: who did what to which object. Rows are added, never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from shared.database import now_ms
from shared.pages import Page, read_page
from shared.sql_dialect import in_parts
from shared.tables import Audit


@dataclass(frozen=True)
class Entry:
    """One line: what `record` takes."""

    actor: str
    event: str
    object_type: str
    object_id: int | str
    detail: dict[str, Any] | None = None


def record_all(session: Session, entries: Sequence[Entry]) -> None:
    """Adds many lines at once, as `record` adds one."""
    rows = [
        {
            "at": now_ms(),
            "actor": entry.actor,
            "event": entry.event,
            "object_type": entry.object_type,
            "object_id": str(entry.object_id),
            "fence": None,
            "detail": entry.detail,
        }
        for entry in entries
    ]
    for some in in_parts(rows):
        session.execute(insert(Audit).values(some))


def record(  # noqa: PLR0917 - who, what, to which: read in this order
    session: Session,
    actor: str,
    event: str,
    object_type: str,
    object_id: int | str,
    detail: dict[str, Any] | None = None,
    *,
    fence: int | None = None,
) -> None:
    """Adds one line, in the transaction of what it tells about.

    Args:
        session: The writing session of that transaction.
        actor: `user:<id>`, `worker:<id>`, `reconciler` or `system`.
        event: Past tense, snake case: `job_cancelled`.
        object_type: `job`, `group`, `queue`, `dataset`, `model`, `user`, `worker`,
            `receiver`.
        object_id: Its number or name.
        detail: JSON values worth keeping; never a secret.
        fence: The attempt, where one acted.
    """
    session.add(
        Audit(
            at=now_ms(),
            actor=actor,
            event=event,
            object_type=object_type,
            object_id=str(object_id),
            fence=fence,
            detail=detail,
        )
    )
    session.flush()


def list_events(
    session: Session,
    *,
    object_type: str | None = None,
    object_id: int | str | None = None,
    actor: str | None = None,
    page: int = 1,
    page_size: int = 50,
) -> Page[Audit]:
    """Returns one page of the audit, the newest line first.

    Args:
        session: Any session.
        object_type: Only what was done to such objects.
        object_id: Only what was done to the one of this number or name.
        actor: Only what this one did: `user:<id>`, say.
        page: From 1.
        page_size: 1 to 500.
    """
    query = select(Audit).order_by(Audit.id.desc())
    if object_type is not None:
        query = query.where(Audit.object_type == object_type)
    if object_id is not None:
        query = query.where(Audit.object_id == str(object_id))
    if actor is not None:
        query = query.where(Audit.actor == actor)
    return read_page(session, query, page, page_size)
