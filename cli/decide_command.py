"""`dataset decide`: what is to become of what the doctor found."""

import secrets
from typing import Annotated, Any

import typer

from cli.options import GroupBy, Json, read_group
from cli.output import out, print_json
from shared.edit_actions import ACCEPT, DONE, EXCLUDE, QUARANTINE, RELABEL
from shared.errors import UserError


def decide(
    dataset: Annotated[str, typer.Argument(help="Name or number.")],
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", metavar="KEY", help="It is fine: hide the finding."),
    ] = None,
    relabel: Annotated[
        list[str] | None,
        typer.Option(
            "--relabel",
            metavar="KEY[=LABEL]",
            help="Give its pictures this label, else the suggested one.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="KEY", help="Leave its pictures out."),
    ] = None,
    quarantine: Annotated[
        list[str] | None,
        typer.Option("--quarantine", metavar="KEY", help="Keep them, train on none."),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            "--all",
            metavar="KIND=ACTION",
            help="All findings of a kind, as suspect_label=relabel. Test pictures "
            "stay as they are.",
        ),
    ] = None,
    include_test: Annotated[
        bool, typer.Option("--include-test", help="With --all: test pictures, too.")
    ] = False,
    restore: Annotated[
        str | None,
        typer.Option(
            "--restore",
            metavar="REASON",
            help="Use all again that lie in quarantine for this reason; of very many, "
            "so many at a time as one request may name.",
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="Of copies: test (the default), first or none."),
    ] = None,
    deal: GroupBy = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow until it has been made.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Decide about findings of the newest version; the old one stays.

    Keys are those that `trainyard dataset doctor` prints, and the reasons of --restore
    those on the dataset's page. With --deal all pictures are dealt into training,
    validation and test anew.
    """
    from cli import watch
    from cli.api_client import connect

    choices = [
        *({"key": key, "action": ACCEPT} for key in accept or []),
        *map(_read_relabel, relabel or []),
        *({"key": key, "action": EXCLUDE} for key in exclude or []),
        *({"key": key, "action": QUARANTINE} for key in quarantine or []),
    ]
    kind, action = _read_every(every, include_test=include_test)
    client = connect()
    found = client.find_dataset(dataset)
    if found["version"] is None:
        raise UserError(
            f"{found['name']} has no readable version yet.", field="dataset"
        )
    split = read_group(deal, "deal")
    wishes: dict[str, Any] = {"split": split | {"again": True} if split else None}
    ask = client.decide_findings
    if restore is None:
        wishes |= {"choices": choices, "kind": kind, "action": action, "keep": keep}
        wishes["include_test"] = include_test or None
    else:
        _refuse_both(choices, kind or keep)
        ask, wishes["restore"] = client.decide_pictures, restore
    outcome = ask(
        found["id"], version=found["version"], key=secrets.token_hex(16), **wishes
    )
    if as_json:
        print_json(outcome)
    else:
        _tell(outcome)
    if wait and outcome["job_id"]:
        watch.require_succeeded(watch.follow(client, [outcome["job_id"]]))


def _read_relabel(words: str) -> dict[str, Any]:
    key, _, label = words.partition("=")
    return {"key": key, "action": RELABEL} | ({"label": label} if label else {})


def _read_every(
    words: str | None, *, include_test: bool
) -> tuple[str | None, str | None]:
    if words is None:
        if include_test:
            raise UserError("`--include-test` goes with `--all`.", field="include_test")
        return None, None
    kind, _, action = words.partition("=")
    if not action:
        raise UserError(
            f"`--all` takes KIND=ACTION, as suspect_label=relabel. Received: {words}.",
            field="all",
        )
    return kind.replace(" ", "_"), action


def _refuse_both(choices: list[dict[str, Any]], other: str | None) -> None:
    if choices or other:
        raise UserError(
            "`--restore` makes a version of its own: decide about findings with "
            "another command, before it or behind it.",
            field="restore",
        )


def _tell(outcome: dict[str, Any]) -> None:
    if "images" in outcome:
        _tell_findings(outcome)
    for note in outcome.get("notes", []):
        out.print(note)
    if outcome["job_id"]:
        out.print(f"Job {outcome['job_id']} makes the next version.")


def _tell_findings(outcome: dict[str, Any]) -> None:
    for action, count in outcome["images"].items():
        out.print(f"{_count(count, 'picture')} {DONE[action]}.")
    if outcome["accepted"]:
        found = _count(outcome["accepted"], "finding")
        out.print(f"{found} accepted, and hidden from now on.")
    if outcome["left_in_test"]:
        out.print(
            f"{_count(outcome['left_in_test'], 'picture')} of the test split stayed as "
            "before: a test without what a model doubts tests nothing. Name such "
            "findings one by one, or add --include-test."
        )
    for why, number in outcome["passed_over_because"].items():
        out.print(f"{_count(number, 'finding')} passed over: {why}.")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
