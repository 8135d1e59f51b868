"""`forecast`, `dataset doctor`, `promises`: what is to be expected, and what came."""

from typing import Annotated, Any

import typer

from cli.forecast_words import print_findings, print_forecast, print_promises
from cli.options import Json
from cli.output import out, print_json

app = typer.Typer()
Version = Annotated[
    int | None,
    typer.Option("--version", min=1, help="Of the dataset; the newest by default."),
]


@app.command()
def forecast(
    dataset: Annotated[str, typer.Argument(help="Name or number.")],
    version: Version = None,
    base_models: Annotated[
        list[str] | None,
        typer.Option(
            "--base-model",
            metavar="NAME",
            help="Compare this base model with the default one; may be given again. "
            "Without it the worker takes one of each family that it has.",
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also where there is a forecast already.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the job until there is a forecast.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Forecast a dataset: how hard it is, and what each preset will reach and take."""
    from cli import watch
    from cli.api_client import connect

    client = connect()
    number = client.find_dataset(dataset)["id"]
    found = client.ask_forecast(
        number, version=version, again=again or None, base_models=base_models or None
    )
    again = again or found["created"] or bool(base_models)
    if wait and found["job"] and _is_wanted(found, again=again):
        ended = watch.follow(client, [found["job"]["id"]])
        watch.require_succeeded(ended)
        found = client.get_forecast(number, version)
    if as_json:
        print_json(found)
    elif _is_wanted(found, again=again) or found["forecast"] is None:
        job = found["job"]["id"]
        out.print(f"Job {job} forecasts it. Follow with `trainyard watch {job}`.")
    else:
        print_forecast(found)


def examine(
    dataset: Annotated[str, typer.Argument(help="Name or number.")],
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only findings of this kind.")
    ] = None,
    version: Version = None,
    accepted: Annotated[
        bool, typer.Option("--accepted", help="Also those that were accepted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List what is odd in a dataset: wrong labels, copies, leaks, bad pictures."""
    from cli.api_client import connect

    client = connect()
    findings = client.list_findings(
        client.find_dataset(dataset)["id"],
        kind=kind,
        version=version,
        accepted=None if accepted else "false",
    )
    if as_json:
        print_json(findings)
    else:
        print_findings(findings)


@app.command()
def promises(
    page: Annotated[int, typer.Option("--page", min=1, help="From 1.")] = 1,
    as_json: Json = False,
) -> None:
    """Compare what was promised of trainings with what they delivered."""
    from cli.api_client import connect

    found = connect().get("/promises", page=page)
    if as_json:
        print_json(found)
    else:
        print_promises(found)


def _is_wanted(found: dict[str, Any], *, again: bool) -> bool:
    """Whether what was asked for is still to come."""
    under_way = found["job"] and found["job"]["state"] in {
        "queued", "running", "paused",
    }  # fmt: skip
    return bool(under_way) and (again or found["forecast"] is None)
