"""Names of datasets and models: shown everywhere, used in addresses and file names."""

import re
import unicodedata
from pathlib import PurePosixPath

from shared.errors import UserError
from web.datasets.upload import (
    ARCHIVES,
    archive_suffix,
    find_suffix,
    shown_name,
)

MAX_CHARACTERS = 80
_FORBIDDEN = re.compile(r"[/\\?#%:\x00-\x1f\x7f]")


def clean_name(text: str, what: str) -> str:
    r"""Returns `text` as a name: composed, single blanks, no controls or separators.

    Args:
        text: What a person typed or a file was called.
        what: `dataset` or `model`, for the message.

    Raises:
        UserError: When it is empty, too long, or holds / \ ? # % or : .
    """
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(c for c in composed if unicodedata.category(c)[0] != "C")
    name = " ".join(visible.split())
    if not name or len(name) > MAX_CHARACTERS or name in {".", ".."}:
        raise UserError(
            f"The name of a {what} has 1 to {MAX_CHARACTERS} characters. "
            f"Received: {text[:100]!r}.",
            field="name",
        )
    if _FORBIDDEN.search(name):
        raise UserError(
            f"The name of a {what} may hold letters, digits, blanks and - _ . , but "
            f"none of / \\ ? # % : . Received: {name!r}.",
            field="name",
        )
    return name


def name_from_file(filename: str) -> str:
    """Returns the name a dataset gets from the archive it came in."""
    shown = shown_name(filename)
    stem = shown[: -len(archive_suffix(shown))]
    return name_from_text(stem)


def name_from_source(name: str) -> str:
    """Returns the name a dataset gets from a source of any kind."""
    suffix = find_suffix(name, ARCHIVES)
    stem = name[: -len(suffix)] if suffix else PurePosixPath(name).stem
    return name_from_text(stem or name)


def name_from_text(text: str) -> str:
    """Returns `text` made into a valid name, whatever it is."""
    plain = " ".join(_FORBIDDEN.sub(" ", text).split()).strip(". ")[:MAX_CHARACTERS]
    return clean_name(plain or "dataset", "dataset")
