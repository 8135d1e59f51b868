"""What a sign-in name looks like: an e-mail address, or a short local one."""

import re
import unicodedata

from shared.errors import UserError

MAX_CHARACTERS = 200
_NAME = re.compile(r"[^\s@<>\"'\x00-\x1f\x7f]+(@[^\s@<>\"'\x00-\x1f\x7f]+)?")


def normalise_email(text: str) -> str:
    """Returns `text` as names are stored: lower case, composed, no blanks around.

    Raises:
        ValueError: When it is empty, too long, or has blanks or markup in it.
    """
    name = unicodedata.normalize("NFKC", text).strip().lower()
    if not name or len(name) > MAX_CHARACTERS or not _NAME.fullmatch(name):
        raise ValueError("A sign-in name looks like ana@example.org.")
    return name


def require_email(text: str) -> str:
    """Returns the name as stored; raises `UserError` where it is none."""
    try:
        return normalise_email(text)
    except ValueError as error:
        raise UserError(f"{error} Received: {text[:80]!r}.", field="email") from error
