"""The audit: who did what to which object. Rows are added, never changed."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.database import now_ms
from shared.tables import Audit


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
        object_type: `job`, `dataset`, `model`, `user`, `worker`.
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
    limit: int = 100,
) -> list[Audit]:
    """Returns the newest events first, of one object when it is named."""
    query = select(Audit).order_by(Audit.id.desc()).limit(limit)
    if object_type is not None:
        query = query.where(Audit.object_type == object_type)
    if object_id is not None:
        query = query.where(Audit.object_id == str(object_id))
    return list(session.scalars(query))
