"""Options that several commands share, and the settings they lead to."""

from pathlib import Path
from typing import Annotated, Any

import typer

from shared.errors import UserError
from shared.settings import Settings, get_settings

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output.")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of everything this installation keeps."),
]
Port = Annotated[
    int | None,
    typer.Option("--port", min=1, max=65535, help="Port of the web server."),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="Keep whole in one split: duplicates, folder, or column:NAME.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]


def read_group(text: str | None, option: str) -> dict[str, str] | None:
    """Returns what a split must hold whole, `by` and `column`; None for nothing.

    Args:
        text: As typed.
        option: Which option it was, with underscores.

    Raises:
        UserError: It is nothing that can be held together.
    """
    if text is None:
        return None
    what, _, column = text.partition(":")
    if what in ("duplicates", "folder") and not column:
        return {"by": what}
    if what == "column" and column:
        return {"by": what, "column": column}
    raise UserError(
        f"`--{option.replace('_', '-')}` must be duplicates, folder or column:NAME. "
        f"Received: {text!r}.",
        field=option,
    )


def settings_with(*, data_dir: Path | None, port: int | None = None) -> Settings:
    """Returns the settings of the environment with a command's options on top.

    Raises:
        UserError: Listing every invalid setting.
    """
    changes: dict[str, Any] = {}
    if data_dir is not None:
        # The other folders follow the data folder unless the environment moves them.
        changes["data_dir"] = data_dir.expanduser().absolute()
    if port is not None:
        changes["port"] = port
    return get_settings().model_copy(update=changes)
