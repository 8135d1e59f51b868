"""Pages of one dataset version: what it changed, and decisions about quarantine."""

import re

from flask import flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from shared import dataset_store
from shared.edit_actions import EXCLUDE, RELABEL, RESTORE
from shared.errors import UserError
from web.auth.sign_in import current_account
from web.datasets import versions
from web.datasets.decision import Decision, Decisions
from web.datasets.decisions import decide
from web.datasets.kept_form import keep_form
from web.datasets.left_over import tell_restored
from web.datasets.routes import blueprint, show_refused
from web.form_key import form_key
from web.installation import get_installation
from web.paging import asked_page, cut_page

_LABEL = "label:"  # before the label that was chosen
_DECISION = re.compile(r"decision:[0-9a-f]{64}")  # the field of one picture


__all__ = ["blueprint"]  # with the routes of this file on it


@blueprint.get("/<int:dataset_id>/versions/<int:version>/changes")
def changes(dataset_id: int, version: int) -> str:
    """Every change of a version against the one that it was made from."""
    here = get_installation()
    with here.database.reading() as session:
        dataset = dataset_store.get_dataset(session, dataset_id)
        row = dataset_store.get_numbered_version(session, dataset_id, version)
    diff = versions.read_diff(here.storage, row)
    kind = request.args.get("kind")
    rows, pager = cut_page(versions.list_changes(diff, kind), versions.PAGE_SIZE)
    return render_template(
        "datasets/changes.html",
        dataset=dataset,
        version=row,
        diff=diff,
        kinds=versions.KINDS,
        kind=kind,
        rows=rows,
        pager=pager,
        cut=versions.list_cut(diff, kind),
        table=versions.find_table(here.storage, row),
    )


@blueprint.post("/<int:dataset_id>/versions/<int:version>/decide")
def decide_quarantine(dataset_id: int, version: int) -> AnyResponse | tuple[str, int]:
    """Takes what was chosen for pictures in quarantine; a new version comes of it.

    Of one by one those of a page, and all that lie there for one reason.

    What cannot be done is told on the page, where all that was chosen still stands.
    """
    place = {"version": version, "quarantine": asked_page("quarantine")}
    wanted = Decisions(
        dataset_id=dataset_id,
        version=version,
        decisions=_read_decisions(),
        restore=request.form.get("restore") or None,
        key=form_key(request.form),
        form=keep_form(request.form, place),
    )
    try:
        added = decide(get_installation(), current_account(), wanted)
    except UserError as error:
        return show_refused(dataset_id, version, error)
    for note in tell_restored(added.left):
        flash(note, "warning")
    return redirect(url_for("datasets.show", dataset_id=dataset_id))


def _read_decisions() -> list[Decision]:
    return [
        _read_decision(name.partition(":")[2], choice)
        for name, choice in request.form.items()
        if _DECISION.fullmatch(name) and choice
    ]


def _read_decision(sha256: str, choice: str) -> Decision:
    if choice.startswith(_LABEL):
        return Decision(RELABEL, [sha256], label=choice.removeprefix(_LABEL))
    if choice == EXCLUDE:
        return Decision(EXCLUDE, [sha256])
    return Decision(RESTORE, [sha256])
