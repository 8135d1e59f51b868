"""What both databases have and SQLAlchemy spells twice, and what limits them alike."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.tables import Base

Item = TypeVar("Item")
# Any number that nothing else on the server uses as an advisory lock.
_CLAIMS_LOCK = 0x7472_6169_6E7A
AT_ONCE = 500  # rows of one statement: databases take a limited number of values


def insert(session: Session, table: type[Base]) -> Any:
    """Returns the INSERT that knows `on_conflict_do_nothing` for this database."""
    dialect = session.get_bind().dialect.name
    module = postgresql if dialect == "postgresql" else sqlite
    return module.insert(table)


def in_parts(items: Sequence[Item], size: int = AT_ONCE) -> Iterator[Sequence[Item]]:
    """Yields the items in parts that one statement can hold."""
    for at in range(0, len(items), size):
        yield items[at : at + size]


def wait_for_claims(session: Session, *, alone: bool) -> None:
    """Takes part in claiming until this transaction ends.

    On SQLite every writer is alone.

    Args:
        session: A writing session.
        alone: Wait until no other claim is under way, and let none begin. What a claim
            reads before it writes then stays true.
    """
    if session.get_bind().dialect.name == "postgresql":
        lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        session.execute(text(f"SELECT {lock}(:key)"), {"key": _CLAIMS_LOCK})
