"""What the forms that add datasets were filled in with, as the use cases take it."""

from dataclasses import replace
from typing import Any

from flask import request
from werkzeug.datastructures import MultiDict

from shared.errors import UserError
from shared.source_addresses import is_address
from shared.source_places import arrange
from web.auth.datastore import Account
from web.datasets.add import ADD, REPLACE, Target
from web.datasets.server_path import Wanted
from web.installation import Installation
from web.row_numbers import asked_number
from web.uploads.uses import open_upload

SPLIT_BY = ("duplicates", "folder", "column")


def list_wanted() -> list[Wanted]:
    """One source for each line, and one for a table that labels them all.

    Raises:
        UserError: When there is a root, and no table that it could belong to.
    """
    labels = request.form.get("labels", "").strip() or None
    root = request.form.get("root", "").strip() or None
    lines = [line.strip() for line in request.form.get("path", "").splitlines()]
    places = [
        {"address" if is_address(line) else "path": line} for line in lines if line
    ]
    arranged = arrange(places or [{"path": ""}], labels=labels, root=root)
    return [Wanted(**place) for place in arranged]


def list_uploads(
    here: Installation, account: Account, body: dict[str, Any]
) -> list[Wanted]:
    """The uploads that a page names; its root goes with the tables among them.

    Raises:
        NotFoundError: When there is no such upload of this user.
        UserError: When none is named, or there is a root and no table.
    """
    uploads, root = body.get("uploads"), str(body.get("root") or "").strip()
    if not isinstance(uploads, list):
        raise UserError("Name the uploads that become the dataset.", field="uploads")
    wanted = [Wanted(upload=str(name)) for name in uploads]
    if not root:
        return wanted
    rooted = [
        replace(one, root=root)
        if open_upload(here, account, one.upload or "").is_table
        else one
        for one in wanted
    ]
    if rooted == wanted:
        raise UserError(
            "`root` is where the pictures of a label table lie. Upload the table, too.",
            field="root",
        )
    return rooted


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
