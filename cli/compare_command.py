"""`jobs compare`: the jobs of a submission side by side."""

import csv
import json
import sys
from typing import Annotated, Any

import typer

from cli.options import Json
from cli.output import print_json, print_table
from shared.errors import UserError
from shared.progress_words import say_duration, say_size

MEASURES = (
    "state", "val_accuracy", "test_accuracy", "log_loss", "epochs", "steps", "seconds",
    "size_bytes", "published",
)  # fmt: skip


def compare(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The submission's, as `submit` says.")
    ],
    sort: Annotated[
        str | None,
        typer.Option(
            help="Column; --sort=-COLUMN takes the largest first. Default: best first."
        ),
    ] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print the table as CSV.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare the jobs of a submission, the best first."""
    from cli.api_client import connect

    if as_csv and as_json:
        raise UserError("Choose one of --csv and --json.")
    found = connect().compare(key, sort)
    if as_json:
        print_json(found)
    elif as_csv:
        _print_csv(found["settings"], found["items"])
    else:
        _print_words(found["settings"], found["items"])


def _print_csv(settings: list[str], rows: list[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["job", "best", *settings, *MEASURES])
    for row in rows:
        values = [_write(row["settings"][name]) for name in settings]
        measures = [row[name] for name in MEASURES]
        writer.writerow([row["job"], _write(row["best"]), *values, *measures])


def _print_words(settings: list[str], rows: list[dict[str, Any]]) -> None:
    has_log_loss = any(row["log_loss"] is not None for row in rows)
    measures = ["state", "validation", "test", *(["log-loss"] if has_log_loss else [])]
    print_table(
        ["job", *settings, *measures, "epochs", "steps", "time", "size", "model"],
        [
            [
                f"{row['job']} best" if row["best"] else row["job"],
                *(_write(row["settings"][name]) for name in settings),
                row["state"],
                _percent(row["val_accuracy"]),
                _percent(row["test_accuracy"]),
                *([_round(row["log_loss"])] if has_log_loss else []),
                row["epochs"] or None,
                row["steps"] or None,
                say_duration(row["seconds"]) if row["seconds"] else None,
                say_size(row["size_bytes"]) if row["size_bytes"] else None,
                row["published"],
            ]
            for row in rows
        ],
    )


def _write(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.2f} %"


def _round(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
