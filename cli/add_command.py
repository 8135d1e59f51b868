"""`dataset add`: uploads, paths of the server and addresses become datasets."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.dataset_words import summarise
from cli.options import GroupBy, Json, read_group
from cli.output import print_json
from shared.errors import UserError
from shared.source_places import Place, arrange, is_table, with_root

if TYPE_CHECKING:
    from cli.api_client import ApiClient


def add(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH...]",
            help="Archives, folders, or tables that name addresses; one set each.",
        ),
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
    group_by: GroupBy = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="CSV of filename,label[,split] for a folder."),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(
            "--root",
            help="Where the pictures of a label table lie: folder of the server, or "
            "address.",
        ),
    ] = None,
    on_server: Annotated[
        bool,
        typer.Option(
            "--on-server",
            help="Every PATH, and --labels, lies on the server: nothing is uploaded. "
            "What lies here needs a command of its own (--to adds it).",
        ),
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
    tables = _Tables(labels, root)
    if not on_server:
        tables.refuse_lone_root([*paths, *addresses], together=together)
    client = connect()
    wishes: dict[str, Any] = {"name": name, **_split_by(group_by)}
    if to is not None:
        wishes["dataset_id"] = client.find_dataset(to)["id"]
        wishes["mode"] = "replace" if replace else "add"
    if on_server:
        brought = _list_places(paths, addresses, tables, together=together)
    else:
        brought = _send(client, paths, addresses, tables, together=together)
    added = [uploads.add(client, sources, **wishes) for sources in brought]
    jobs = watch.follow(client, [row["job_id"] for row in added]) if wait else []
    datasets = [client.get(f"/datasets/{row['id']}") for row in added]
    if as_json:
        print_json(datasets)
    else:
        for dataset in datasets:
            summarise(dataset)
    watch.require_succeeded(jobs)


@dataclass(frozen=True)
class _Tables:
    """A label table for what is named, and where the pictures of tables lie."""

    labels: str | None
    root: str | None

    def refuse_lone_root(self, named: list[str], *, together: bool) -> None:
        """Refuses a root that would go with no table of what is uploaded."""
        beside = [self.labels] if together and self.labels else []
        if self.root is not None and not any(map(is_table, [*named, *beside])):
            raise UserError(
                "`--root` is where the pictures of a label table lie: name the table "
                "as a PATH or an `--address`.",
                field="root",
            )


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
    paths: list[str], addresses: list[str], tables: _Tables, *, together: bool
) -> list[list[Place]]:
    """What lies on the server or at addresses: the sources of each set."""
    places = [{"path": path} for path in paths]
    places += [{"address": address} for address in addresses]
    sets = [places] if together else [[one] for one in places]
    return [arrange(one, labels=tables.labels, root=tables.root) for one in sets]


def _send(
    client: "ApiClient",
    paths: list[str],
    addresses: list[str],
    tables: _Tables,
    *,
    together: bool,
) -> Iterator[list[Place]]:
    """Uploads what lies here; yields the sources of each set as soon as it is there."""
    from cli import uploads

    local, root = [Path(path) for path in paths], tables.root
    labels = None if tables.labels is None else Path(tables.labels)
    if together and local:
        there = [with_root({"address": address}, root) for address in addresses]
        yield uploads.send_together(client, local, labels, root) + there
        return
    for path in local:
        yield [uploads.send_one(client, path, labels, root)]
    yield from _list_places([], addresses, tables, together=together)


def _split_by(text: str | None) -> dict[str, Any]:
    """What `--group-by` says, in the words of the API."""
    split = read_group(text, "group_by") or {}
    return {
        ("split_by" if name == "by" else "split_column"): v for name, v in split.items()
    }
