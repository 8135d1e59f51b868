"""Secrets that lie in files, as containers and service managers hand them over.

A file shows in no process list, no environment and no log. It holds the secret alone;
white space around it, such as the newline that editors add, does not count.
"""

from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from shared.errors import UserError


def read_secret_file(path: Path, setting: str, *, may_be_empty: bool = False) -> str:
    """Returns the secret in the file at `path`.

    Args:
        path: As the setting names it.
        setting: Name of the setting, for the message.
        may_be_empty: Whether there may be no secret.

    Raises:
        UserError: When the file cannot be read, or is empty and must not be.
    """
    variable = f"TRAINYARD_{setting.upper()}"
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(
            f"{variable}: {path} cannot be read ({reason}). It must hold the secret "
            "alone and be readable to the user of this process. `trainyard secrets` "
            "makes such files, `trainyard up` its own.",
            field=setting,
        ) from error
    if not secret and not may_be_empty:
        raise UserError(
            f"{variable}: {path} is empty; it must hold the secret.", field=setting
        )
    return secret


def takes_password(address: str | None) -> bool:
    """Whether a password can be added: the address names a server and has none."""
    parts = urlsplit(address or "")
    return bool(parts.netloc) and parts.password is None


def add_password(address: str, password: str) -> str:
    """Returns `address` with the password in its place, whatever characters it has."""
    parts = urlsplit(address)
    user, _, place = parts.netloc.rpartition("@")
    whole = f"{user}:{quote(password, safe='')}@{place}"
    return urlunsplit(parts._replace(netloc=whole))
