"""What the forms that add datasets were filled in with, as the use cases take it."""

from typing import Any

from flask import request
from werkzeug.datastructures import MultiDict

from shared.errors import UserError
from shared.source_addresses import is_address
from web.datasets.add import ADD, REPLACE, Target
from web.datasets.server_path import Wanted
from web.row_numbers import asked_number

SPLIT_BY = ("duplicates", "folder", "column")


def list_wanted() -> list[Wanted]:
    """One source for each line; what else was filled in goes with every one."""
    labels = request.form.get("labels", "").strip() or None
    root = request.form.get("root", "").strip() or None
    lines = [line.strip() for line in request.form.get("path", "").splitlines()]
    return [
        Wanted(address=line, labels=labels, root=root)
        if is_address(line)
        else Wanted(path=line, labels=labels, root=root)
        for line in lines
        if line
    ] or [Wanted(path="", labels=labels)]


def asked_target(values: MultiDict[str, str], key: str | None) -> Target:
    """Where it goes what a form brings; the dataset stands in its address."""
    return Target(
        name=values.get("name", "").strip() or None,
        dataset_id=asked_number("dataset_id"),
        mode=REPLACE if values.get("mode") == REPLACE else ADD,
        split=_asked_split(values),
        key=key,
    )


def _asked_split(values: MultiDict[str, str]) -> dict[str, Any] | None:
    """How to deal, of the form's one field: empty, a word, or `column` with a name."""
    by, column = values.get("split_by", ""), values.get("split_column", "").strip()
    if by not in SPLIT_BY:
        return None
    if by != "column":
        return {"by": by}
    if not column:
        raise UserError("Name the column that holds the groups.", field="split_column")
    return {"by": by, "column": column}
