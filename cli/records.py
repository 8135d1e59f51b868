"""The records themselves, for commands that must work when the web server does not."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.errors import UserError
from shared.settings import Settings, get_settings

if TYPE_CHECKING:
    from shared.database import Database


@contextmanager
def open_records() -> Iterator[tuple["Database", Settings]]:
    """Yields the installation's database and settings.

    Raises:
        UserError: When the settings name no installation.
    """
    from shared.database import Database

    settings = get_settings()
    path = settings.data_dir / "trainyard.sqlite"
    if settings.database_url is None and not os.access(path, os.R_OK):
        raise UserError(
            f"There is no installation in {settings.data_dir}: start it with "
            "`trainyard up`, or set TRAINYARD_DATA_DIR or TRAINYARD_DATABASE_URL."
        )
    database = Database(settings.database_address)
    try:
        yield database, settings
    finally:
        database.dispose()
