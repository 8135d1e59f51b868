"""`dataset add`, `list`, `show`, `delete`."""

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import Json, Yes
from cli.output import format_size, out, print_json, print_table, say
from shared.errors import UserError

app = typer.Typer()
commands = typer.Typer(help="Add, see and delete datasets.", no_args_is_help=True)
app.add_typer(commands, name="dataset")
SHOWN_SKIPPED = 20


@commands.command("add")
def add(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH...]", help="Archives or folders, one set each."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The dataset's name, for one set.")
    ] = None,
    addresses: Annotated[
        list[str] | None,
        typer.Option("--address", help="Fetch https://, s3://...: the server does it."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="One set of all PATHs and addresses.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="CSV of filename,label[,split] for a folder."),
    ] = None,
    on_server: Annotated[
        bool, typer.Option("--on-server", help="PATH lies on the server: no upload.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow until it has been read.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Add datasets: upload archives or folders, or name where the server finds them."""
    from cli import uploads, watch
    from cli.api_client import connect

    paths, addresses = paths or [], addresses or []
    _check_places(paths, addresses, name, together=together, on_server=on_server)
    client = connect()
    remote = _list_sources(paths if on_server else [], addresses, labels)
    added = [
        client.add_sources(sources, name=name, key=secrets.token_urlsafe(16))
        for sources in ([remote] if together else [[one] for one in remote])
    ]
    added += [
        uploads.add_local(client, Path(path), name=name, labels=labels)
        for path in ([] if on_server else paths)
    ]
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


def _check_places(
    paths: list[str],
    addresses: list[str],
    name: str | None,
    *,
    together: bool,
    on_server: bool,
) -> None:
    places = len(paths) + len(addresses)
    if not places:
        raise UserError("Name a PATH, or an `--address`.", field="path")
    if name is not None and places > 1 and not together:
        raise UserError(
            "`--name` goes with one PATH or address, or with `--together`.",
            field="name",
        )
    if together and paths and not on_server:
        raise UserError(
            "`--together` joins what lies on the server (`--on-server`) or at an "
            "`--address`. Put local folders into one folder, and add that.",
            field="together",
        )


def _list_sources(
    paths: list[str], addresses: list[str], labels: Path | None
) -> list[dict[str, str]]:
    more = {} if labels is None else {"labels": str(labels)}
    sources = [{"path": path, **more} for path in paths]
    return sources + [{"address": address, **more} for address in addresses]


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
