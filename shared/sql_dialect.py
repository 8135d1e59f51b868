"""What both databases have and SQLAlchemy spells twice, and what limits them alike."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.tables import Base

Item = TypeVar("Item")
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
