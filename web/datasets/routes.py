"""Pages of datasets: the table, adding, one dataset, deleting."""

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
    send_file,
    url_for,
)
from flask_security.decorators import auth_required
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as AnyResponse

from shared import dataset_store, forecast_store, upload_use_store
from shared.errors import NotFoundError, UserError
from shared.source_kinds import ARCHIVES, TABLES
from shared.tables import DatasetVersion
from web import polling
from web.auth.sign_in import current_account
from web.datasets import forecast_section, forecast_view, view
from web.datasets import report as reports
from web.datasets.add import Added, Incoming, add_sources, add_upload, own_dataset
from web.datasets.add_forms import asked_target, list_uploads, list_wanted
from web.datasets.delete import delete_dataset, plan_deletion
from web.datasets.finding_page import make_panel
from web.datasets.forecast_curve import list_columns
from web.datasets.kept_form import find_failed, read_kept
from web.datasets.versions import page_quarantine
from web.deleting import show_plan
from web.error_pages import status_of
from web.form_key import form_key
from web.installation import get_database, get_installation
from web.paging import Pager, asked_page, cut_page
from web.ranges import dig
from web.row_numbers import asked_number, read_number

blueprint = Blueprint("datasets", __name__, url_prefix="/datasets")

DAY_SECONDS = 86400


@blueprint.before_request
@auth_required("session")
def _require_sign_in() -> None:
    """Every page here is for people who are signed in."""


@blueprint.get("")
def index() -> str:
    """The table of datasets."""
    return render_template("datasets/index.html", **_make_table())


@blueprint.get("/table")
def table() -> Response:
    """The table alone, for polling."""
    return polling.fragment("datasets/_table.html", **_make_table())


@blueprint.get("/add")
def add() -> str:
    """The forms that bring datasets in."""
    return _show_add(asked_number("dataset"))


@blueprint.post("/add-uploads")
def add_from_uploads() -> tuple[Response, int]:
    """Makes one dataset of finished uploads (`upload.js` asks for it)."""
    here, account = get_installation(), current_account()
    sent = request.get_json(silent=True)
    body: dict[str, Any] = sent if isinstance(sent, dict) else {}
    fields = MultiDict((name, str(value or "")) for name, value in body.items())
    wanted = list_uploads(here, account, body)
    added = add_sources(here, account, wanted, asked_target(fields, None))
    page = url_for("datasets.show", dataset_id=added.dataset_id)
    return jsonify(id=added.dataset_id, job_id=added.job_id, page=page), 201


@blueprint.post("/upload-form")
def upload_form() -> AnyResponse | tuple[str, int]:
    """Takes archives from a plain form, for browsers without script."""
    try:
        added = _add_files()
    except UserError as error:
        return _refuse(error)
    if len(added) == 1:
        return redirect(url_for("datasets.show", dataset_id=added[0].dataset_id))
    return redirect(url_for("datasets.index"))


@blueprint.post("/add-path")
def add_path() -> AnyResponse | tuple[str, int]:
    """Adds what lies on the server or at addresses: all lines together."""
    try:
        added = add_sources(
            get_installation(),
            current_account(),
            list_wanted(),
            asked_target(request.form, form_key(request.form)),
        )
    except UserError as error:
        return _refuse(error)
    return redirect(url_for("datasets.show", dataset_id=added.dataset_id))


@blueprint.get("/<int:dataset_id>")
def show(dataset_id: int) -> str:
    """One dataset: counts, samples, what was skipped and why, versions, jobs."""
    return show_page(dataset_id, asked_number("version"))


@blueprint.get("/<int:dataset_id>/live")
def live(dataset_id: int) -> Response:
    """How far the reading is, for polling."""
    with get_database().reading() as session:
        dataset = dataset_store.get_dataset(session, dataset_id)
        ingest = view.find_ingest(session, dataset_id)
    response = polling.fragment("datasets/_live.html", ingest=ingest, dataset=dataset)
    if ingest is None or not ingest.live:
        response.headers["X-Poll"] = "stop"  # the page reloads once, with its result
    return response


@blueprint.get("/<int:dataset_id>/versions/<int:version>/thumbnails/<name>")
def thumbnail(dataset_id: int, version: int, name: str) -> Response:
    """One sample picture, small."""
    here = get_installation()
    with here.database.reading() as session:
        row = _pick_version(dataset_store.list_versions(session, dataset_id), version)
    if row is None:
        raise NotFoundError("There is no such version.")
    path = reports.find_thumbnail(here.storage, row, name)
    response = send_file(path)
    response.headers["Cache-Control"] = f"private, max-age={DAY_SECONDS}"
    return response


@blueprint.get("/<int:dataset_id>/forecast/live")
def live_forecast(dataset_id: int) -> Response:
    """How it stands with the forecast of a version, for polling."""
    here = get_installation()
    with here.database.reading() as session:
        dataset = dataset_store.get_dataset(session, dataset_id)
        state = forecast_view.find_state(session, dataset_id, asked_number("version"))
        values = forecast_section.make_state(session, here, state)
    response = polling.fragment(
        "datasets/_forecast_state.html", dataset=dataset, forecast=values
    )  # fmt: skip
    if not state.live:
        response.headers["X-Poll"] = "stop"  # the page reloads once, with its result
    return response


@blueprint.post("/<int:dataset_id>/forecast")
def ask_forecast(dataset_id: int) -> AnyResponse | tuple[str, int]:
    """Has a version forecast, with the base models that were chosen, if any."""
    version = read_number(request.form.get("version", ""))
    try:
        forecast_view.ask(
            get_installation(),
            current_account(),
            dataset_id,
            version,
            again="again" in request.form,
            base_models=request.form.getlist("base_model") or None,
        )
    except UserError as error:
        return show_refused(dataset_id, version, error)
    page = url_for("datasets.show", dataset_id=dataset_id, version=version)
    return redirect(f"{page}#forecast")


@blueprint.get("/<int:dataset_id>/forecasts/<int:job_id>/thumbnails/<name>")
def forecast_thumbnail(dataset_id: int, job_id: int, name: str) -> Response:
    """One small picture of a finding."""
    here = get_installation()
    with here.database.reading() as session:
        forecast = forecast_store.find_by_job(session, dataset_id, job_id)
    response = send_file(forecast_view.find_thumbnail(here.storage, forecast, name))
    response.headers["Cache-Control"] = f"private, max-age={DAY_SECONDS}"
    return response


@blueprint.get("/<int:dataset_id>/forecasts/<int:job_id>/chart.json")
def forecast_chart(dataset_id: int, job_id: int) -> Response:
    """The chart of a forecast's learning curve, with its columns."""
    with get_database().reading() as session:
        forecast = forecast_view.get_by_job(session, dataset_id, job_id)
        columns = list_columns(dig(forecast.summary, "learning_curve"))
    # Bokeh takes a second to import; most requests never need it.
    from web.datasets.forecast_charts import build_curve_chart  # noqa: PLC0415

    return polling.data({"chart": build_curve_chart(), "columns": columns})


@blueprint.route("/<int:dataset_id>/delete", methods=["GET", "POST"])
def delete(dataset_id: int) -> str | AnyResponse:
    """Says what goes with a dataset; the POST deletes it."""
    here, account = get_installation(), current_account()
    if request.method == "POST":
        plan = delete_dataset(here, account, dataset_id)
        flash(f"{plan.title} is deleted.", "success")
        return redirect(url_for("datasets.index"))
    return show_plan(
        plan_deletion(here, account, dataset_id),
        back=url_for("datasets.show", dataset_id=dataset_id),
        words="the dataset",
    )


def show_page(dataset_id: int, wanted: int | None) -> str:
    """Returns the page of a dataset and of its version `wanted`, else its newest."""
    return render_template("datasets/show.html", **_make_page(dataset_id, wanted))


def show_refused(
    dataset_id: int, version: int | None, error: UserError
) -> tuple[str, int]:
    """Returns the page with what cannot be done, where all that was chosen stands.

    Raises:
        UserError: `error`, when there is no such page, or not for who asks.
    """
    status = status_of(error)
    if status not in {400, 409}:
        raise error
    flash(str(error), "error")
    return show_page(dataset_id, version), status


def _make_table() -> dict[str, Any]:
    with get_database().reading() as session:
        found = dataset_store.list_datasets(
            session, page=asked_page(), page_size=view.PAGE_SIZE
        )
        rows = view.list_rows(session, found.items)
    pager = Pager(found.page, view.PAGE_SIZE, found.total, "datasets.index")
    return {"rows": rows, "pager": pager}


def _make_page(dataset_id: int, wanted: int | None) -> dict[str, Any]:
    here = get_installation()
    with here.database.reading() as session:
        dataset = dataset_store.get_dataset(session, dataset_id)
        versions = dataset_store.list_versions(session, dataset_id)
        version = _pick_version(versions, wanted)
        if wanted is not None and version is None:
            raise NotFoundError(f"Dataset {dataset.name!r} has no version {wanted}.")
        jobs = view.list_train_jobs(session, dataset_id)
        state = forecast_view.find_state(session, dataset_id, wanted)
        values = {
            "dataset": view.list_rows(session, [dataset])[0],
            "versions": versions,
            "version": version,
            "ingest": view.find_ingest(session, dataset_id),
            "brought": upload_use_store.list_brought(session, dataset_id),
            "jobs": jobs,
            "forecast": forecast_section.make_section(session, here, state, jobs),
        }
    failed = find_failed(dataset_id, asked_number("choices"))
    report = reports.read_report(here.storage, version) if version else {}
    classes = view.count_classes(report)
    return {
        **values,
        "report": report,
        "classes": classes,
        "totals": view.total_splits(classes),
        "samples": reports.list_samples(report),
        "skipped": _page_skipped(report),
        "doctor": make_panel(here, state),
        "quarantine": page_quarantine(here.storage, version, report),
        "failed": failed,
        "filled": read_kept(failed.spec.get("form")) if failed else request.form,
        "numbers": {row.id: row.version for row in values["versions"]},
        "key": secrets.token_urlsafe(16),
    }


def _pick_version(
    versions: list[DatasetVersion], number: int | None
) -> DatasetVersion | None:
    if number is None:
        return versions[0] if versions else None
    return next((v for v in versions if v.version == number), None)


def _page_skipped(report: dict[str, Any]) -> dict[str, Any]:
    skipped = report.get("skipped") or []
    rows, pager = cut_page(
        skipped,
        reports.SKIPPED_PAGE_SIZE,
        parameter="skipped",
        endpoint="datasets.show",
    )
    total = report.get("skipped_total") or len(skipped)
    return {"rows": rows, "total": total, "pager": pager}


def _add_files() -> list[Added]:
    here, account = get_installation(), current_account()
    files = [file for file in request.files.getlist("files") if file.filename]
    if not files:
        raise UserError("Choose at least one archive.", field="files")
    key = request.form.get("key")
    return [
        add_upload(
            here,
            account,
            Incoming(
                stream=file.stream,
                filename=file.filename or "",
                target=asked_target(request.form, f"{key}#{index}" if key else None),
            ),
        )
        for index, file in enumerate(files)
    ]


def _refuse(error: UserError) -> tuple[str, int]:
    page = _show_add(asked_number("dataset_id"), problem=str(error))
    return page, status_of(error)


def _show_add(dataset_id: int | None, problem: str | None = None) -> str:
    settings = get_installation().settings
    dataset = None
    if dataset_id is not None:
        own_dataset(current_account(), dataset_id)
        with get_database().reading() as session:
            dataset = dataset_store.get_dataset(session, dataset_id)
    return render_template(
        "datasets/add.html",
        dataset=dataset,
        problem=problem,
        roots=settings.dataset_roots,
        addresses=settings.source_addresses,
        max_upload_bytes=settings.max_upload_bytes,
        archive_suffixes=ARCHIVES,
        table_suffixes=TABLES,
        key=request.form.get("key") or secrets.token_urlsafe(16),
    )
