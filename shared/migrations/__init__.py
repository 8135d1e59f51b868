"""The schema's history: `python -m shared.migrations` brings a database up to date."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from shared.database import Database

# Any number that nothing else on the server uses as an advisory lock.
_ADVISORY_LOCK = 0x7472_6169_6E79


def upgrade(database: Database, revision: str = "head") -> None:
    """Runs every revision that `database` lacks, all in one transaction.

    A second process that does the same waits for the first and finds nothing to do.
    """
    with database.engine.begin() as connection:
        wait_alone(connection)
        command.upgrade(build_config(connection), revision)


def build_config(connection: Connection) -> Config:
    """Returns Alembic's configuration for work on `connection`."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def wait_alone(connection: Connection) -> None:
    """Keeps other migrations out until the transaction of `connection` ends.

    SQLite's BEGIN IMMEDIATE has done so already.
    """
    if connection.dialect.name == "postgresql":
        # A migration may take long, and so may the wait for another one.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK}
        )
