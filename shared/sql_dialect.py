"""The one statement that both databases have and SQLAlchemy spells twice."""

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.tables import Base


def insert(session: Session, table: type[Base]) -> Any:
    """Returns the INSERT that knows `on_conflict_do_nothing` for this database."""
    dialect = session.get_bind().dialect.name
    module = postgresql if dialect == "postgresql" else sqlite
    return module.insert(table)
