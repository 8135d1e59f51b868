"""`dataset list`, `show`, `diff`, `delete`; the others from modules of their own."""

from typing import Annotated

import typer

from cli.add_command import add
from cli.dataset_words import summarise
from cli.decide_command import decide
from cli.forecast_commands import examine
from cli.options import Json, Yes
from cli.output import out, print_json, print_table, say
from shared.errors import UserError
from shared.progress_words import say_size

app = typer.Typer()
commands = typer.Typer(help="Add, see and delete datasets.", no_args_is_help=True)
app.add_typer(commands, name="dataset")
commands.command("add")(add)
commands.command("doctor")(examine)
commands.command("decide")(decide)
SHOWN_SKIPPED = 20


@commands.command("list")
def list_datasets(as_json: Json = False) -> None:
    """List the datasets."""
    from cli.api_client import connect

    found = connect().list_datasets()
    if as_json:
        print_json(found)
        return
    print_table(
        ["id", "name", "images", "classes", "size"],
        [
            [
                row["id"],
                row["name"],
                row.get("images"),
                len(row.get("classes") or []) or None,
                say_size(row["size_bytes"]) if row.get("size_bytes") else None,
            ]
            for row in found
        ],
    )


@commands.command("show")
def show(dataset: str, as_json: Json = False) -> None:
    """Show a dataset's counts, and what was left out and why."""
    from cli.api_client import connect

    client = connect()
    found = client.get(f"/datasets/{client.find_dataset(dataset)['id']}")
    if as_json:
        print_json(found)
        return
    summarise(found)
    report = found.get("report") or {}
    counts = report.get("counts") or {}
    labels = report.get("classes") or sorted({k for c in counts.values() for k in c})
    if labels:
        print_table(
            ["class", *counts],
            [[label, *(c.get(label, 0) for c in counts.values())] for label in labels],
        )
    for note in report.get("notes") or []:
        say(note)
    skipped = report.get("skipped") or []
    for row in skipped[:SHOWN_SKIPPED]:
        say(f"left out {row['file']}: {row['reason']}")
    if len(skipped) > SHOWN_SKIPPED:
        say(f"and {report.get('skipped_total', len(skipped)) - SHOWN_SKIPPED} more")


@commands.command("diff")
def diff(
    dataset: str,
    version: Annotated[
        int | None, typer.Option("--version", help="Defaults to the newest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a version changed against the one that it was made from."""
    from cli.api_client import connect

    client = connect()
    found = client.find_dataset(dataset)
    number = version or found["version"]
    if number is None:
        raise UserError(
            f"{found['name']} has no readable version yet.", field="dataset"
        )
    told = client.get_dataset_diff(found["id"], number)
    if as_json:
        print_json(told)
        return
    say(f"{found['name']}: version {number} against {told['parent']['version']}")
    for sentence in told["sentences"] or ["No picture was changed."]:
        say(sentence)


@commands.command("delete")
def delete(dataset: str, yes: Yes = False, as_json: Json = False) -> None:
    """Delete a dataset and what goes with it."""
    from cli.api_client import connect

    client = connect()
    found = client.find_dataset(dataset)
    if not yes:
        typer.confirm(f"Delete dataset {found['name']} and its files?", abort=True)
    answer = client.delete(f"/datasets/{found['id']}")
    if as_json:
        print_json(answer or {"deleted": found["id"]})
    else:
        out.print(f"Deleted {found['name']}.")
