"""The fault matrix: every row, by number."""

from tests.chaos import (
    rows_broker,
    rows_database,
    rows_fleet,
    rows_processes,
    rows_publishing,
    rows_requests,
    rows_storage,
)
from tests.chaos.rows import ROWS

__all__ = [
    "ROWS",
    "rows_broker",
    "rows_database",
    "rows_fleet",
    "rows_processes",
    "rows_publishing",
    "rows_requests",
    "rows_storage",
]
