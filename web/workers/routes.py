"""The page of workers."""

from flask import Blueprint, Response, flash, redirect, render_template, url_for
from flask_security.decorators import auth_required
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from shared import worker_store
from web import polling
from web.auth.sign_in import current_account
from web.installation import get_database
from web.permissions import admins_only
from web.workers.base_models import group_told, list_told
from web.workers.view import WorkerRow, list_rows

blueprint = Blueprint("workers", __name__, url_prefix="/workers")


@blueprint.before_request
@auth_required("session")
def _require_sign_in() -> None:
    """Every page here is for people who are signed in."""


@blueprint.get("")
def index() -> str:
    """Who is there and what each does."""
    with get_database().reading() as session:
        rows, told = list_rows(session), list_told(session)
    return render_template("workers/index.html", rows=rows, groups=group_told(told))


@blueprint.get("/table")
def table() -> Response:
    """The table alone, for polling."""
    return polling.fragment("workers/_table.html", rows=_read())


@blueprint.post("/<int:worker_id>/readmit")
@admins_only
def readmit(worker_id: int) -> AnyResponse:
    """Lets a quarantined worker take jobs again."""

    def write(session: Session) -> None:
        worker_store.set_status(
            session, worker_id, worker_store.ACTIVE, actor=current_account().actor
        )

    get_database().tx(write)
    flash("The worker takes jobs again.", "success")
    return redirect(url_for("workers.index"))


@blueprint.post("/<int:worker_id>/forget")
@admins_only
def forget(worker_id: int) -> AnyResponse:
    """Takes a worker that will not come back off the list."""

    def write(session: Session) -> None:
        worker_store.forget(session, worker_id, actor=current_account().actor)

    get_database().tx(write)
    flash(
        "The worker is off the list; should it come back, it is listed anew.", "success"
    )
    return redirect(url_for("workers.index"))


def _read() -> list[WorkerRow]:
    with get_database().reading() as session:
        return list_rows(session)
