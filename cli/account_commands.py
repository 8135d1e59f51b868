"""`token`, `invite` and `user`: who may come in.

These work on the database itself, so that whoever runs the machine can always let
somebody in, also when no admin remembers a password.
"""

from typing import Annotated

import typer

from cli.options import Json
from cli.output import out, print_json, print_table, say
from cli.records import open_records
from shared.errors import NotFoundError, UserError

app = typer.Typer()
users = typer.Typer(help="See users and make links for them.", no_args_is_help=True)
app.add_typer(users, name="user")
ROLES = ("admin", "member")
Email = Annotated[str, typer.Argument(help="Sign-in name of the user.")]


@app.command()
def token(
    name: Annotated[
        str, typer.Argument(help="What the token is for.")
    ] = "command line",
    user: Annotated[
        str | None, typer.Option("--user", help="Whose. Defaults to the first admin.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an API token; its text is shown once and kept nowhere."""
    from cli import first_user

    with open_records() as (database, _settings):
        text = first_user.make_token(database, email=user, name=name)
    if as_json:
        print_json({"token": text, "name": name})
        return
    out.print(text, soft_wrap=True)
    say("Set TRAINYARD_URL and TRAINYARD_TOKEN where you want to use it.")


@app.command()
def invite(
    email: Email,
    role: Annotated[str, typer.Option("--role", help="admin or member.")] = "member",
    as_json: Json = False,
) -> None:
    """Make a link with which a new user chooses a password."""
    if role not in ROLES:
        raise UserError(f"`--role` is admin or member. Received: {role}.", field="role")
    _hand_over(email, role, as_json=as_json)


@users.command("link")
def link(email: Email, as_json: Json = False) -> None:
    """Make a link with which a user chooses a new password."""
    _hand_over(email, None, as_json=as_json)


@users.command("list")
def list_users(as_json: Json = False) -> None:
    """List the users."""
    from shared import user_store

    with open_records() as (database, _settings), database.reading() as session:
        rows = [
            {"email": row.email, "role": row.role, "active": row.active}
            for row in user_store.list_users(session)
        ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ["user", "role", "may sign in"],
            [
                [row["email"], row["role"], "yes" if row["active"] else "no"]
                for row in rows
            ],
        )


@users.command("limits")
def set_limits(
    email: Email,
    running: Annotated[
        int | None,
        typer.Option("--running", min=1, help="Trainings that run at once."),
    ] = None,
    waiting: Annotated[
        int | None,
        typer.Option("--waiting", min=1, help="Trainings that wait at once."),
    ] = None,
    usual: Annotated[
        bool, typer.Option("--usual", help="Forget this user's own limits first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show or change what one user may have; what is left out stays."""
    from shared import user_limit_store, user_store
    from shared.user_limit_store import UserLimits

    with open_records() as (database, _settings), database.transaction() as session:
        user = user_store.find_user_by_email(session, email)
        if user is None:
            raise NotFoundError(f"There is no user {email}.", field="email")
        limits = UserLimits(
            running or (None if usual else user.max_running),
            waiting or (None if usual else user.max_waiting),
        )
        if usual or running is not None or waiting is not None:
            user_limit_store.set_limits(session, user.id, limits, actor="local")
    told = {"email": email, "running": limits.running, "waiting": limits.waiting}
    if as_json:
        print_json(told)
        return
    words = [f"{told[name] or 'as usual'} {name}" for name in ("running", "waiting")]
    out.print(f"{email}: {', '.join(words)}.")


def _hand_over(email: str, role: str | None, *, as_json: bool) -> None:
    from cli import first_user, up

    with open_records() as (database, settings):
        path = first_user.make_link(database, email=email, role=role)
    state = up.find_running(settings)
    base = settings.public_url or (state or {}).get("url")
    url = f"{base or f'http://{settings.host}:{settings.port}'}{path}"
    if as_json:
        print_json({"email": email, "link": url})
        return
    out.print(url, soft_wrap=True)
    say(f"Hand this link to {email}. It works once.")
