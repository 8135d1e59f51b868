"""Reads the form of the findings' page: a choice for each card, ticks, and the bar.

Fields: `do:KEY` and `label:KEY` of one card; `chosen` with the keys of the ticked
cards, or `whole` for all of a kind; `action`, `label`, `keep` and `test` of the bar for
those; `deal` and `column` for the splits.
"""

from typing import Any

from werkzeug.datastructures import MultiDict

from shared.edit_actions import ACCEPT, RELABEL
from shared.errors import UserError
from web.datasets.clusters import BY_DUPLICATES
from web.datasets.finding_choices import Wishes
from web.datasets.finding_plan import ACTIONS, KEEP_FIRST, KEEP_NONE, KEEP_TEST, Choice
from web.datasets.findings import FindingKind
from web.datasets.kept_form import keep_form
from web.form_key import form_key
from web.row_numbers import read_number

BY_COLUMN, BY_FOLDER = "column", "folder"
DEALS = {
    BY_DUPLICATES: "pictures that look alike stay together",
    BY_FOLDER: "each folder stays together",
    BY_COLUMN: "what has the same value in a column of the table stays together",
}
KEEPS = {
    KEEP_TEST: "the one in test, else in validation, else the first",
    KEEP_FIRST: "the first",
    KEEP_NONE: "none of them",
}
_DO, _LABEL = "do:", "label:"
_AS = "as:"  # before the label that a button names


def read_wishes(
    dataset_id: int, form: MultiDict[str, str], place: dict[str, Any]
) -> Wishes:
    """Returns what was filled in.

    Args:
        dataset_id: Of which dataset.
        form: What was sent.
        place: Which page of findings it was on, as the parameters of its address.

    Raises:
        UserError: Naming the field that is not filled in as it must be.
    """
    bulk = _read_bulk(form)
    choices = {} if bulk is None else dict.fromkeys(form.getlist("chosen"), bulk)
    return Wishes(
        dataset_id=dataset_id,
        version=_read_version(form),
        choices=choices | _read_own(form),
        whole_kind=_read_kind(form),
        bulk=bulk,
        keep=_read_keep(form),
        split=_read_split(form),
        key=form_key(form),
        form=keep_form(form, place),
    )


def _read_version(form: MultiDict[str, str]) -> int:
    number = read_number(form.get("version", ""))
    if number is None:
        raise UserError(
            "The form does not say which version it is about. Reload the page.",
            field="version",
        )
    return number


def _read_bulk(form: MultiDict[str, str]) -> Choice | None:
    """What the bar says about the ticked ones; None when none is ticked."""
    if not form.get("whole") and not form.getlist("chosen"):
        return None
    action = form.get("action", "")
    own = {key for key, _ in _list_own(form)}
    if not action and not form.get("whole") and own >= set(form.getlist("chosen")):
        return None  # each of them has a choice of its own
    if action not in ACTIONS:
        raise UserError(
            "Say in the bar below what is to become of the findings that you ticked.",
            field="action",
        )
    label = form.get("label") or None if action == RELABEL else None
    return Choice(action, label, is_bulk=form.get("test") != "yes")


def _read_own(form: MultiDict[str, str]) -> dict[str, Choice]:
    return {key: _read_choice(form, key, value) for key, value in _list_own(form)}


def _list_own(form: MultiDict[str, str]) -> list[tuple[str, str]]:
    return [
        (name.removeprefix(_DO), value)
        for name, value in form.items()
        if name.startswith(_DO) and value
    ]


def _read_choice(form: MultiDict[str, str], key: str, value: str) -> Choice:
    if value.startswith(_AS):
        return Choice(RELABEL, value.removeprefix(_AS))
    if value not in ACTIONS or value == ACCEPT:
        raise UserError(
            f"A finding can be relabelled, excluded or quarantined. Received: {value}.",
            field="action",
        )
    label = form.get(f"{_LABEL}{key}") or None if value == RELABEL else None
    if value == RELABEL and label is None:
        raise UserError(
            "Choose the label of each picture that you relabel.", field="label"
        )
    return Choice(value, label)


def _read_kind(form: MultiDict[str, str]) -> str | None:
    kind = form.get("whole") or None
    if kind is not None and kind not in set(FindingKind):
        raise UserError(f"There is no kind of findings {kind!r}.", field="whole")
    return kind


def _read_keep(form: MultiDict[str, str]) -> str:
    keep = form.get("keep", KEEP_TEST)
    return keep if keep in KEEPS else KEEP_TEST


def _read_split(form: MultiDict[str, str]) -> dict[str, Any] | None:
    by, column = form.get("deal", ""), form.get("column", "").strip()
    if by not in DEALS:
        return None
    if by != BY_COLUMN:
        return {"by": by, "again": True}
    if not column:
        raise UserError(
            "Name the column of the table that holds the groups.", field="column"
        )
    return {"by": by, "column": column, "again": True}
