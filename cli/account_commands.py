"""`token`, `invite` and `user`: who may come in.

These work on the database itself, so that whoever runs the machine can always let
somebody in, also when no admin remembers a password.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json
from cli.output import out, print_json, print_table, say
from shared.errors import UserError
from shared.settings import Settings, get_settings

if TYPE_CHECKING:
    from shared.database import Database

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

    with _database() as (database, _settings):
        text = first_user.make_token(database, email=user, name=name)
    if as_json:
        print_json({"token": text, "name": name})
        return
    out.print(text, markup=False, soft_wrap=True)
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

    with _database() as (database, _settings), database.reading() as session:
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


def _hand_over(email: str, role: str | None, *, as_json: bool) -> None:
    from cli import first_user, up

    with _database() as (database, settings):
        path = first_user.make_link(database, email=email, role=role)
    state = up.find_running(settings)
    base = settings.public_url or (state or {}).get("url")
    url = f"{base or f'http://{settings.host}:{settings.port}'}{path}"
    if as_json:
        print_json({"email": email, "link": url})
        return
    out.print(url, markup=False, soft_wrap=True)
    say(f"Hand this link to {email}. It works once.")


@contextmanager
def _database() -> Iterator[tuple["Database", Settings]]:
    from shared.database import Database

    settings = get_settings()
    path = settings.data_dir / "trainyard.sqlite"
    if settings.database_url is None and not os.access(path, os.R_OK):
        raise UserError(
            f"There is no installation in {settings.data_dir}: start it with "
            "`trainyard up`, or set TRAINYARD_DATA_DIR or TRAINYARD_DATABASE_URL."
        )
    database = Database(settings.database_address)
    try:
        yield database, settings
    finally:
        database.dispose()
