"""`dataset add`, `list`, `show`, `diff`, `delete`; `doctor`, from its own module."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.forecast_commands import examine
from cli.options import Json, Yes
from cli.output import format_size, out, print_json, print_table, say
from shared.errors import UserError

if TYPE_CHECKING:
    from cli.api_client import ApiClient

app = typer.Typer()
commands = typer.Typer(help="Add, see and delete datasets.", no_args_is_help=True)
app.add_typer(commands, name="dataset")
commands.command("doctor")(examine)
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
        bool,
        typer.Option(
            "--together", help="One set of all PATHs, tables among them, and addresses."
        ),
    ] = False,
    to: Annotated[
        str | None,
        typer.Option("--to", help="A dataset that gets a new version of them."),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="With --to: take what comes in place of it."),
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
    """Add datasets: upload archives or folders, or name where the server finds them."""
    from cli import uploads, watch
    from cli.api_client import connect

    paths, addresses = paths or [], addresses or []
    places = len(paths) + len(addresses)
    if not places:
        raise UserError("Name a PATH, or an `--address`.", field="path")
    sets = 1 if together else places
    _refuse_target(sets, name=name, to=to, replace=replace)
    client = connect()
    wishes: dict[str, Any] = {"name": name, **_read_group(group_by)}
    if to is not None:
        wishes["dataset_id"] = client.find_dataset(to)["id"]
        wishes["mode"] = "replace" if replace else "add"
    if on_server:
        brought = _list_places(paths, addresses, labels, together=together)
    else:
        brought = _send(client, paths, addresses, labels, together=together)
    added = [uploads.add(client, sources, **wishes) for sources in brought]
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
    sets: int, *, name: str | None, to: str | None, replace: bool
) -> None:
    if to is None and replace:
        raise UserError("`--replace` goes with `--to`.", field="replace")
    if to is not None and name is not None:
        raise UserError("`--to` names a dataset that has its name.", field="name")
    if name is not None and sets > 1:
        raise UserError(
            "`--name` goes with one PATH or address, or with `--together`.",
            field="name",
        )
    if replace and sets > 1:
        raise UserError(
            "`--replace` goes with one PATH or address, or with `--together`: each "
            "would replace the one before.",
            field="replace",
        )


def _list_places(
    paths: list[str], addresses: list[str], labels: Path | None, *, together: bool
) -> list[list[dict[str, str]]]:
    """What lies on the server or at addresses: the sources of each set."""
    more = {} if labels is None else {"labels": str(labels)}
    sources = [{"path": path, **more} for path in paths]
    sources += [{"address": address, **more} for address in addresses]
    return [sources] if together else [[one] for one in sources]


def _send(
    client: "ApiClient",
    paths: list[str],
    addresses: list[str],
    labels: Path | None,
    *,
    together: bool,
) -> Iterator[list[dict[str, str]]]:
    """Uploads what lies here; yields the sources of each set as soon as it is there."""
    from cli import uploads

    local = [Path(path) for path in paths]
    if together and local:
        sent = uploads.send_together(client, local, labels)
        yield sent + [{"address": address} for address in addresses]
        return
    for path in local:
        yield [uploads.send_one(client, path, labels)]
    yield from _list_places([], addresses, labels, together=together)


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
