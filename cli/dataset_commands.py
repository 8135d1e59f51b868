"""`dataset add`, `list`, `show`, `diff`, `delete`; `doctor`, from its own module."""

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.forecast_commands import examine
from cli.options import Json, Yes
from cli.output import format_size, out, print_json, print_table, say
from shared.errors import UserError

app = typer.Typer()
commands = typer.Typer(help="Add, see and delete datasets.", no_args_is_help=True)
app.add_typer(commands, name="dataset")
commands.command("doctor")(examine)
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
    to: Annotated[
        str | None,
        typer.Option("--to", help="A dataset that gets a new version of them."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="With --to: take PATH in place of it.")
    ] = False,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            metavar="WHAT",
            help="Keep whole in one split: duplicates, folder, or column:NAME.",
        ),
    ] = None,
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
    """Add datasets: upload archives or folders, or name what lies on the server."""
    from cli import uploads, watch
    from cli.api_client import connect

    if name is not None and len(paths) > 1:
        raise UserError("`--name` goes with one PATH.", field="name")
    _refuse_target(paths, name=name, to=to, replace=replace)
    client = connect()
    wishes: dict[str, Any] = _read_group(group_by)
    if to is not None:
        wishes["dataset_id"] = client.find_dataset(to)["id"]
        wishes["mode"] = "replace" if replace else "add"
    added = [
        client.add_server_path(
            path, name=name, labels=labels, key=secrets.token_urlsafe(16), **wishes
        )
        if on_server
        else uploads.add_local(client, Path(path), name=name, labels=labels, **wishes)
        for path in paths
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
        out.print(f"Deleted {found['name']}.", markup=False)


def _refuse_target(
    paths: list[str], *, name: str | None, to: str | None, replace: bool
) -> None:
    if to is None and replace:
        raise UserError("`--replace` goes with `--to`.", field="replace")
    if to is not None and name is not None:
        raise UserError("`--to` names a dataset that has its name.", field="name")
    if replace and len(paths) > 1:
        raise UserError(
            "`--replace` goes with one PATH: each would replace the one before.",
            field="path",
        )


def _read_group(text: str | None) -> dict[str, Any]:
    """What `--group-by` says, in the words of the API."""
    if text is None:
        return {}
    what, _, column = text.partition(":")
    if what in ("duplicates", "folder") and not column:
        return {"split_by": what}
    if what == "column" and column:
        return {"split_by": what, "split_column": column}
    raise UserError(
        f"`--group-by` must be duplicates, folder or column:NAME. Received: {text!r}.",
        field="group_by",
    )


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
