"""Alembic's entry: runs the revisions on the connection it is given."""

from alembic import context

import shared.forecast_tables
import shared.notifications.tables  # noqa: F401 - further tables of the same Base
from shared.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    # Our SQLite connections begin transactions themselves, so DDL rolls back there too.
    transactional_ddl=True,
    render_as_batch=True,  # SQLite alters a table by making it anew
)
with context.begin_transaction():
    context.run_migrations()
