"""Numbers of rows in addresses and forms: none that no database can hold."""

from flask import Flask, request
from werkzeug.routing import IntegerConverter

MAX_NUMBER = 2**63 - 1


class RowNumberConverter(IntegerConverter):
    """`<int:...>` in addresses: a number beyond every row is simply not found."""

    def __init__(self, *args: object, **options: object) -> None:
        options.setdefault("max", MAX_NUMBER)
        super().__init__(*args, **options)  # type: ignore[arg-type]


def register(app: Flask) -> None:
    """Makes every `<int:...>` of `app` a row's number."""
    app.url_map.converters["int"] = RowNumberConverter


def read_number(text: str) -> int | None:
    """Returns the row number that `text` is, or None."""
    if not text.isdecimal() or len(text) > len(str(MAX_NUMBER)):
        return None
    number = int(text)
    return number if number <= MAX_NUMBER else None


def read_numbers(texts: list[str]) -> list[int]:
    """Returns those of `texts` that are row numbers."""
    return [n for n in map(read_number, texts) if n is not None]


def asked_number(parameter: str) -> int | None:
    """Returns the row number in the address under `parameter`, or None."""
    return read_number(request.args.get(parameter, ""))
