"""Pages of the data doctor: what it found, and deciding about it."""

import secrets
from typing import Any

from flask import (
    Blueprint,
    Response,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_security.decorators import auth_required
from werkzeug.wrappers import Response as AnyResponse

from shared import dataset_store
from shared.edit_actions import DONE
from shared.errors import UserError
from shared.tables import Dataset, Job
from web import polling
from web.auth.sign_in import current_account
from web.datasets import accepted_findings
from web.datasets.finding_choices import Outcome, decide_findings
from web.datasets.finding_form import read_wishes
from web.datasets.finding_page import Filter, make_page
from web.datasets.findings import FindingKind
from web.datasets.forecast_view import ForecastState, find_state
from web.datasets.kept_form import find_failed, read_kept
from web.error_pages import status_of
from web.installation import get_installation
from web.paging import MAX_PAGE
from web.permissions import may_change
from web.row_numbers import asked_number, read_number

blueprint = Blueprint("findings", __name__, url_prefix="/datasets/<int:dataset_id>")


@blueprint.before_request
@auth_required("session")
def _require_sign_in() -> None:
    """Every page here is for people who are signed in."""


@blueprint.get("/findings")
def index(dataset_id: int) -> str:
    """What the doctor found in a version, the worst first.

    With `choices`, the number of a job that has failed, all that was chosen for it is
    filled in again.
    """
    failed = find_failed(dataset_id, asked_number("choices"))
    return _show(dataset_id, asked_number("version"), failed=failed)


@blueprint.get("/findings/live")
def live(dataset_id: int) -> Response:
    """How far the examination is, for polling."""
    dataset, state = _find(dataset_id, asked_number("version"))
    values = make_page(get_installation(), dataset, state, Filter())
    response = polling.fragment("datasets/_examination.html", dataset=dataset, **values)
    if not state.live:
        response.headers["X-Poll"] = "stop"  # the page reloads once, with its result
    return response


@blueprint.post("/findings/decide")
def decide(dataset_id: int) -> AnyResponse | tuple[str, int]:
    """Takes all that was chosen on a page; what is not accepted makes a version."""
    try:
        wishes = read_wishes(dataset_id, request.form, _name_place())
        outcome = decide_findings(get_installation(), current_account(), wishes)
    except UserError as error:
        return _refuse(dataset_id, error)
    _tell(outcome)
    if outcome.added is None:
        return _go_back(dataset_id)
    return redirect(url_for("datasets.show", dataset_id=dataset_id))


@blueprint.post("/findings/accept")
def accept(dataset_id: int) -> AnyResponse:
    """Accepts one finding at once: it is fine, and not shown again."""
    keys = request.form.getlist("accept")[:1]
    version = read_number(request.form.get("version", ""))
    done = accepted_findings.accept(
        get_installation(), current_account(), dataset_id, keys, version
    )
    return _answer(dataset_id, done, "accepted and not shown any more")


@blueprint.post("/findings/take-back")
def take_back(dataset_id: int) -> AnyResponse:
    """Shows findings again that were accepted: the one named, or all ticked."""
    keys = request.form.getlist("one") or request.form.getlist("chosen")
    done = accepted_findings.take_back(
        get_installation(), current_account(), dataset_id, keys
    )
    return _answer(dataset_id, done, "shown again")


def _find(dataset_id: int, version: int | None) -> tuple[Dataset, ForecastState]:
    with get_installation().database.reading() as session:
        dataset = dataset_store.get_dataset(session, dataset_id)
        return dataset, find_state(session, dataset_id, version)


def _show(
    dataset_id: int,
    version: int | None,
    *,
    problem: UserError | None = None,
    failed: Job | None = None,
) -> str:
    here = get_installation()
    dataset, state = _find(dataset_id, version)
    values = make_page(here, dataset, state, _read_filter())
    return render_template(
        "datasets/findings.html",
        dataset=dataset,
        may_decide=may_change(current_account(), dataset),
        problem=problem,
        failed=failed,
        filled=read_kept(failed.spec.get("form")) if failed else request.form,
        key=request.form.get("key") or secrets.token_urlsafe(16),
        **values,
    )


def _refuse(dataset_id: int, error: UserError) -> tuple[str, int]:
    """Shows the page again with the problem, and with all that was filled in."""
    version = read_number(request.form.get("version", ""))
    status = status_of(error)
    if status not in {400, 409}:
        raise error
    return _show(dataset_id, version, problem=error), status


def _read_filter() -> Filter:
    """Which findings: of the address, or what the form says that it shows."""
    kind = request.values.get("kind", "")
    page = read_number(request.values.get("page", "")) or 1
    return Filter(
        kind=FindingKind(kind) if kind in set(FindingKind) else None,
        accepted=request.values.get("accepted") == "yes",
        page=min(max(page, 1), MAX_PAGE),
    )


def _tell(outcome: Outcome) -> None:
    if outcome.added is not None:
        done = [
            f"{count:,} {'picture' if count == 1 else 'pictures'} {DONE[action]}"
            for action, count in outcome.images.items()
        ]
        what = ", ".join(done) or "the splits dealt anew"
        flash(f"A new version is being made: {what}. This one stays.", "success")
    if outcome.accepted:
        flash(_count(outcome.accepted, "accepted and not shown any more"), "success")
    if outcome.left_in_test:
        number = outcome.left_in_test
        flash(
            f"{number:,} {'picture' if number == 1 else 'pictures'} of the test split "
            "stayed as they were: a test without what a model doubts tests nothing. "
            "Choose for each of them by itself, or include the test split.",
            "warning",
        )
    for why, number in outcome.passed_over.items():
        flash(_count(number, f"passed over: {why}"), "warning")
    for note in outcome.notes:
        flash(note, "warning")
    if outcome.added is None and not outcome.accepted:
        flash("All of it has been accepted already.", "success")


def _count(number: int, done: str) -> str:
    return f"{number:,} {'finding is' if number == 1 else 'findings are'} {done}."


def _answer(dataset_id: int, number: int, done: str) -> AnyResponse:
    """Answers the script with numbers, and everybody else with the page."""
    if request.accept_mimetypes.best == "application/json":
        return jsonify(findings=number)
    flash(_count(number, done), "success")
    return _go_back(dataset_id)


def _go_back(dataset_id: int) -> AnyResponse:
    """Leads to the page that the form was on."""
    return redirect(url_for("findings.index", dataset_id=dataset_id, **_name_place()))


def _name_place() -> dict[str, Any]:
    """Returns the parameters of the address of the page that the form was on."""
    wanted = _read_filter()
    return {
        "version": request.form.get("version"),
        "kind": wanted.kind,
        "page": wanted.page if wanted.page > 1 else None,
        "accepted": "yes" if wanted.accepted else None,
    }
