"""`notify`: where one hears of one's jobs, and what was sent there."""

from typing import Annotated, Any

import typer

from cli.options import Json
from cli.output import format_time, out, print_json, print_table
from shared.errors import UserError

app = typer.Typer()
commands = typer.Typer(invoke_without_command=True)
app.add_typer(commands, name="notify")

Receiver = Annotated[int, typer.Argument(metavar="RECEIVER", help="Its number.")]
KINDS = ("finished", "failed", "stalled")


@commands.callback()
def list_receivers(context: typer.Context, as_json: Json = False) -> None:
    """List where you hear of your jobs; or add a webhook or mail."""
    from cli.api_client import connect

    if context.invoked_subcommand is not None:
        return
    found = connect().get("/notifications")["items"]
    if as_json:
        print_json(found)
        return
    print_table(
        ["receiver", "to", "of", "taken", "on the way", "not taken", "state"],
        [
            [
                row["id"],
                row["address"],
                ", ".join(kind.removeprefix("job.") for kind in row["kinds"]),
                row["delivered"],
                row["waiting"],
                row["given_up"],
                "active" if row["active"] else row["problem"] or "switched off",
            ]
            for row in found
        ],
    )


@commands.command()
def add(
    address: Annotated[
        str, typer.Argument(help="https://... of a webhook, or `mail` for e-mail.")
    ],
    on: Annotated[
        list[str] | None,
        typer.Option("--on", help="finished, failed or stalled; all unless named."),
    ] = None,
    everyones: Annotated[
        bool, typer.Option("--everyones", help="Others' jobs, too; for admins.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hear of your jobs by a webhook or by e-mail."""
    from cli.api_client import connect

    unknown = [kind for kind in on or [] if kind not in KINDS]
    if unknown:
        raise UserError(
            f"`--on` must be one of {', '.join(KINDS)}. Received: {unknown[0]}.",
            field="on",
        )
    mail = address in {"mail", "email", "e-mail"}
    answer = connect().post(
        "/notifications",
        {
            "channel": "email" if mail else "webhook",
            "address": "" if mail else address,
            "kinds": [f"job.{kind}" for kind in on or KINDS],
            "everyones": everyones,
        },
    )
    if as_json:
        print_json(answer)
        return
    out.print(f"Receiver {answer['id']}: {answer['address']}")
    if answer["secret"]:
        out.print(f"Secret: {answer['secret']}", soft_wrap=True)


@commands.command()
def remove(receiver: Receiver) -> None:
    """Send nothing there any more."""
    from cli.api_client import connect

    connect().delete(f"/notifications/{receiver}")
    out.print(f"Receiver {receiver} is removed.")


@commands.command("test")
def send_test(receiver: Receiver) -> None:
    """Send a test; `notify sent` shows the answer."""
    from cli.api_client import connect

    connect().post(f"/notifications/{receiver}/test")
    out.print("A test is on its way.")


@commands.command("sent")
def list_sent(
    receiver: Receiver,
    page: Annotated[int, typer.Option("--page", min=1, help="From 1.")] = 1,
    as_json: Json = False,
) -> None:
    """List what was sent to a receiver with the answers, the newest first."""
    from cli.api_client import connect

    found = connect().get(f"/notifications/{receiver}/deliveries", page=page)
    if as_json:
        print_json(found)
        return
    print_table(
        ["delivery", "when", "what", "job", "state", "tries", "last answer"],
        [
            [
                row["id"],
                format_time(row["at"]),
                row["kind"],
                row["job_id"] or "",
                row["state"].replace("_", " "),
                len(row["tries"]),
                _last_answer(row),
            ]
            for row in found["items"]
        ],
    )


@commands.command("again")
def send_again(
    delivery: Annotated[int, typer.Argument(help="A number of `notify sent`.")],
) -> None:
    """Send something once more, at once."""
    from cli.api_client import connect

    connect().post(f"/deliveries/{delivery}/again")
    out.print("It is on its way again.")


def _last_answer(row: dict[str, Any]) -> str:
    if not row["tries"]:
        return ""
    last = row["tries"][0]
    return f"{last['status'] or ''} {last['answer']}".strip()
