"""`dataset add`, `list`, `show`, `delete`."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Json, Yes
from cli.output import format_size, out, print_json, print_table, say
from shared.errors import UserError

if TYPE_CHECKING:
    from cli.api_client import ApiClient

app = typer.Typer()
commands = typer.Typer(help="Add, see and delete datasets.", no_args_is_help=True)
app.add_typer(commands, name="dataset")
SHOWN_SKIPPED = 20


@commands.command("add")
def add(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Archives or folders, one set each."),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="The dataset's name, for one PATH.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="CSV of filename,label[,split] for a folder."),
    ] = None,
    together: Annotated[
        bool,
        typer.Option(
            "--together", help="All PATHs, and tables among them, make one set."
        ),
    ] = False,
    on_server: Annotated[
        bool, typer.Option("--on-server", help="PATH lies on the server: no upload.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow until it has been read.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Add datasets: upload archives or folders, or name what lies on the server."""
    from cli import uploads, watch
    from cli.api_client import connect

    if name is not None and len(paths) > 1 and not together:
        raise UserError(
            "`--name` goes with one PATH, or with `--together`.", field="name"
        )
    if together and on_server:
        raise UserError(
            "`--together` goes with what is uploaded, not with `--on-server`.",
            field="together",
        )
    client = connect()
    if together:
        local = [Path(path) for path in paths]
        added = [uploads.add_together(client, local, name=name, labels=labels)]
    else:
        added = _add_each(client, paths, name, labels, on_server=on_server)
    jobs = watch.follow(client, [row["job_id"] for row in added]) if wait else []
    datasets = [client.get(f"/datasets/{row['id']}") for row in added]
    if as_json:
        print_json(datasets)
    else:
        for dataset in datasets:
            _summarise(dataset)
    watch.require_succeeded(jobs)


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
                format_size(row["size_bytes"]) if row.get("size_bytes") else None,
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
    _summarise(found)
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
        out.print(f"Deleted {found['name']}.", markup=False)


def _add_each(
    client: "ApiClient",
    paths: list[str],
    name: str | None,
    labels: Path | None,
    *,
    on_server: bool,
) -> list[dict[str, Any]]:
    from cli import uploads

    return [
        client.add_server_path(
            path, name=name, labels=labels, key=secrets.token_urlsafe(16)
        )
        if on_server
        else uploads.add_local(client, Path(path), name=name, labels=labels)
        for path in paths
    ]


def _summarise(dataset: dict[str, Any]) -> None:
    report = dataset.get("report") or {}
    if not report:
        say(f"{dataset['name']} (id {dataset['id']}) has no readable version yet.")
        return
    images = report.get("images", dataset.get("images"))
    words = f"{dataset['name']} (id {dataset['id']}): {images} images"
    words += f" in {len(report.get('classes') or [])} classes"
    if report.get("skipped_total"):
        words += f", {report['skipped_total']} files left out"
    say(words)
