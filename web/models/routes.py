"""Pages of models: the table, one model, one version, its archive."""

from flask import (
    Blueprint,
    Response,
    flash,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_security.decorators import auth_required
from werkzeug.wrappers import Response as AnyResponse

from shared import model_store
from shared.errors import NotFoundError
from web.auth.sign_in import current_account
from web.deleting import show_plan
from web.installation import get_database, get_installation
from web.models import view
from web.models.archive import send_artifact, send_version
from web.models.delete import delete_version, plan_deletion
from web.models.evaluation import make_evaluation
from web.paging import Pager, asked_page, cut_page

blueprint = Blueprint("models", __name__, url_prefix="/models")


@blueprint.before_request
@auth_required("session")
def _require_sign_in() -> None:
    """Every page here is for people who are signed in."""


@blueprint.get("")
def index() -> str:
    """The table of models."""
    with get_database().reading() as session:
        found = model_store.list_models(
            session, page=asked_page(), page_size=view.PAGE_SIZE
        )
        rows = view.list_rows(session, found.items)
    pager = Pager(found.page, view.PAGE_SIZE, found.total)
    return render_template("models/index.html", rows=rows, pager=pager)


@blueprint.get("/<name>")
def show(name: str) -> str:
    """One model and its versions."""
    with get_database().reading() as session:
        model = model_store.get_model_by_name(session, name)
        row = view.list_rows(session, [model])[0]
        versions = view.list_versions(session, model)
    part, pager = cut_page(versions, view.PAGE_SIZE)
    return render_template("models/show.html", model=row, versions=part, pager=pager)


@blueprint.get("/<name>/<int:version>")
def version(name: str, version: int) -> str:
    """One version: its evaluation, its archive, its digest."""
    with get_database().reading() as session:
        row = view.find_row(session, name, str(version))
    files = [{"name": n, **f} for n, f in sorted(row.files.items())]
    return render_template(
        "models/version.html",
        version=row,
        files=files,
        evaluation=make_evaluation(row.evaluation),
    )


@blueprint.get("/<name>/<int:version>/archive")
def archive(name: str, version: int) -> Response:
    """The SavedModel as a zip."""
    here = get_installation()
    with here.database.reading() as session:
        row = view.find_row(session, name, str(version))
    return send_version(here.storage, row)


@blueprint.get("/<name>/<int:version>/files/<file>")
def file(name: str, version: int, file: str) -> Response:
    """One of the files kept beside the archive."""
    here = get_installation()
    with here.database.reading() as session:
        row = view.find_row(session, name, str(version))
    if file not in row.files:
        raise NotFoundError("This version has no such file.")
    return send_artifact(here.storage, row.files[file]["sha256"], file)


@blueprint.route("/<name>/<int:version>/delete", methods=["GET", "POST"])
def delete(name: str, version: int) -> str | AnyResponse:
    """Says what goes with a version; the POST deletes it."""
    here, account = get_installation(), current_account()
    if request.method == "POST":
        plan = delete_version(here, account, name, str(version))
        flash(f"{plan.title} is deleted.", "success")
        return redirect(url_for("models.show", name=name))
    return show_plan(
        plan_deletion(here, account, name, str(version)),
        back=url_for("models.version", name=name, version=version),
        words="the version",
    )
