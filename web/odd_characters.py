"""Refuses text that no database can store, wherever a page is asked for it.

The API names the field itself, by its schemas.
"""

from collections.abc import Iterator

from flask import Flask, request

from shared.errors import UserError

FORM = "application/x-www-form-urlencoded"  # uploads are read by whoever expects them


def register(app: Flask) -> None:
    """Looks at addresses and forms before any page of `app` does."""

    @app.before_request
    def refuse() -> None:
        if request.blueprint == "api":
            return
        for name, text in _list_texts():
            if "\0" in text:
                raise UserError(
                    f"`{name}` holds a character that cannot be stored. Leave it out.",
                    field=name,
                )


def _list_texts() -> Iterator[tuple[str, str]]:
    for name, value in (request.view_args or {}).items():
        yield name, str(value)
    yield from request.args.items(multi=True)
    if request.mimetype == FORM:
        yield from request.form.items(multi=True)
