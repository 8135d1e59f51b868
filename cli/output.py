"""What commands print: tables and progress for people, one JSON object for scripts.

People's words and progress bars go to standard error whenever `--json` is given, so
that standard output holds the JSON alone.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table

out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)


def say(text: str) -> None:
    """Tells the user something that is not the result."""
    err.print(text, soft_wrap=True)


def print_json(value: Any) -> None:
    """Prints `value` as the one JSON document of this command."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints rows under a heading, aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(table) if table.row_count else say("None yet.")


def transfer_progress() -> Progress:
    """Makes a progress bar for bytes, on standard error."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        console=err,
    )


def step_progress() -> Progress:
    """Makes a progress bar for counted steps, on standard error."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
    )


def waiting(text: str) -> Progress:
    """Makes a spinner with a clock, for a step that cannot be counted."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=err,
    )
    progress.add_task(text, total=None)
    return progress


def format_time(moment_ms: float | str | None) -> str:
    """Returns a moment in local time; takes milliseconds or ISO text."""
    if moment_ms is None:
        return ""
    if isinstance(moment_ms, str):
        moment = datetime.fromisoformat(moment_ms)
    else:
        moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def pick(row: Mapping[str, Any], *names: str) -> list[Any]:
    """Returns the values of `names` in `row`, None where it has none."""
    return [row.get(name) for name in names]
