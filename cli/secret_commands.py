"""`secrets`: makes the files that hold the secrets of an installation in containers."""

import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json
from cli.output import out, print_json, say
from shared.errors import UserError

app = typer.Typer()

# What `docker-compose.yml` hands to the containers, by the names of the files.
NAMES = ("database_password", "redis_password", "secret_key", "smtp_password")
# Given by somebody else: made empty, to be written into where it is needed.
NOT_OURS = frozenset({"smtp_password"})
SECRET_BYTES = 32
# A container runs as a user of its own, which sees a file with the rights that it has
# here. So each may be read, and the folder keeps everybody else of this machine away.
FOLDER_MODE = 0o700
FILE_MODE = 0o444
GIVEN_MODE = 0o644


@app.command("secrets")
def make(
    folder: Annotated[
        Path, typer.Argument(help="Where the files go; made when it is missing.")
    ] = Path("secrets"),
    as_json: Json = False,
) -> None:
    """Make the files of passwords and keys that `docker-compose.yml` asks for.

    A file that is there stays as it is: a database knows its password from its first
    start on.
    """
    try:
        made = make_secrets(folder)
    except OSError as error:
        raise UserError(
            f"Cannot write secrets to {folder} ({error.strerror}): name a folder of "
            "your own.",
            field="folder",
        ) from error
    if as_json:
        print_json({"folder": str(folder.absolute()), "made": made})
        return
    for name in NAMES:
        state = "was there, and stays"
        if name in made:
            state = "made, empty: the mail server's" if name in NOT_OURS else "made"
        out.print(f"{folder / name}: {state}", soft_wrap=True)
    say("Keep the folder: without these files the database cannot be opened again.")


def make_secrets(folder: Path) -> list[str]:
    """Leaves a random secret in each missing file; returns the names of those made.

    Raises:
        UserError: When others may enter the folder.
        OSError: When it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        raise UserError(
            f"The folder {folder} is open to other users of this machine (mode "
            f"{mode:o}): close it with `chmod 700`, or name one that is not there yet.",
            field="folder",
        )
    return [name for name in NAMES if _make_secret(folder / name)]


def _make_secret(path: Path) -> bool:
    """Makes the file whole or not at all; returns False when there is one."""
    if path.exists():
        return False
    given = path.name in NOT_OURS
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write("" if given else secrets.token_hex(SECRET_BYTES))
            file.flush()
            os.fsync(handle)
            os.fchmod(handle, GIVEN_MODE if given else FILE_MODE)
        os.link(name, path)  # never over one that somebody else has just made
    except FileExistsError:
        return False
    finally:
        Path(name).unlink()
    return True
