"""Files of this machine that are to be sent: found and read, or refused by their names.

Nothing is left out in silence: a dataset that lacks pictures looks like any other.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from shared.errors import UserError

BLOCK_BYTES = 1 << 20
_BY_EFFECTIVE_IDS = os.access in os.supports_effective_ids


def list_files(folder: Path) -> list[Path]:
    """Returns all files below a folder, sorted; links to folders are not followed.

    Raises:
        UserError: When a folder in it cannot be read.
    """
    with explained(folder):
        found = [
            Path(where, name)
            for where, _, names in os.walk(folder, onerror=_raise)
            for name in names
        ]
        return sorted(path for path in found if path.is_file())


def require_readable(paths: Iterable[Path]) -> None:
    """Returns when all these files may be read.

    Raises:
        UserError: Naming the first that may not, and why.
    """
    for path in paths:
        if not os.access(path, os.R_OK, effective_ids=_BY_EFFECTIVE_IDS):
            with explained(path):
                path.open("rb").close()  # says why


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yields the bytes of a file.

    Raises:
        UserError: When it cannot be read to its end.
    """
    with explained(path), path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what keeps `path`, or a file in it, from being read into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or path} cannot be read: {error.strerror}. Give yourself "
            "the right to read it or take it away, and give the command again.",
            field="path",
        ) from error


def _raise(error: OSError) -> None:
    raise error
