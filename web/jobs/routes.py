"""Pages of jobs: the table, submitting, one job, one submission."""

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

from shared import job_read_store
from shared.errors import UserError
from web import polling
from web.auth.sign_in import current_account
from web.bokeh_assets import BOKEH_VERSION
from web.deleting import show_plan
from web.error_pages import status_of
from web.form_key import form_key
from web.installation import get_database, get_installation
from web.jobs import (
    curves,
    form,
    form_page,
    group,
    order,
    pages,
    promises,
    queues,
)
from web.jobs.asks import ASKS, ask_all
from web.jobs.asks import ask as ask_job
from web.jobs.comparison_charts import MAX_CURVES
from web.jobs.delete import delete_job, plan_deletion
from web.jobs.form_request import build_request
from web.jobs.submit_body import submit_body
from web.row_numbers import read_number

blueprint = Blueprint("jobs", __name__)


@blueprint.before_request
@auth_required("session")
def _require_sign_in() -> None:
    """Every page here is for people who are signed in."""


@blueprint.get("/jobs")
def index() -> str:
    """The table of jobs."""
    return render_template("jobs/index.html", **pages.make_table())


@blueprint.get("/jobs/table")
def table() -> Response:
    """The table alone, for polling."""
    return polling.fragment("jobs/_table.html", **pages.make_table())


@blueprint.get("/jobs/queue")
def queue() -> str:
    """What waits, in the order in which it starts."""
    return render_template("jobs/queue.html", **pages.make_queue())


@blueprint.get("/jobs/queue/table")
def queue_table() -> Response:
    """The queue alone, for polling."""
    return polling.fragment("jobs/_queue.html", **pages.make_queue())


@blueprint.post("/jobs/queue/pause")
def pause_queue() -> AnyResponse:
    """Starts no more jobs from a queue."""
    name = request.form.get("queue", "")
    asked = queues.pause(
        get_installation(), current_account(), name,
        running_too=bool(request.form.get("running_too")),
    )  # fmt: skip
    stops = f" Running jobs asked to stop: {len(asked)}." if asked else ""
    flash(f"No job is started from the queue {name} until it is resumed.{stops}")
    return redirect(url_for("jobs.queue"))


@blueprint.post("/jobs/queue/resume")
def resume_queue() -> AnyResponse:
    """Starts jobs from a queue again."""
    name = request.form.get("queue", "")
    put_back = queues.resume(
        get_installation(), current_account(), name,
        paused_too=bool(request.form.get("paused_too")),
    )  # fmt: skip
    words = f" Paused jobs put back: {len(put_back)}." if put_back else ""
    flash(f"Jobs are started from the queue {name} again.{words}", "success")
    return redirect(url_for("jobs.queue"))


@blueprint.get("/jobs/queue/promised")
def promised() -> str:
    """What was expected of waiting jobs, and what came."""
    with get_database().reading() as session:
        values = promises.make_page(session)
    return render_template("jobs/promises.html", bokeh_version=BOKEH_VERSION, **values)


@blueprint.get("/jobs/queue/promised.json")
def promise_chart() -> Response:
    """The chart of promised and actual waits, and its points."""
    # Bokeh takes a second to import; most requests never need it.
    from web.jobs.charts import build_promise_chart  # noqa: PLC0415

    with get_database().reading() as session:
        points = promises.list_points(session)
    return jsonify({"chart": build_promise_chart(), "columns": {"waits": points}})


@blueprint.post("/jobs/<int:job_id>/move")
def move(job_id: int) -> AnyResponse:
    """Moves a waiting job, and shows the queue again."""
    asked = request.form
    wish = order.Wish(
        to=asked.get("to"),  # type: ignore[arg-type] - anything else is refused
        before=read_number(asked.get("before", "")),
        after=read_number(asked.get("after", "")),
    )
    order.move(get_installation(), current_account(), job_id, wish)
    return redirect(
        url_for("jobs.queue", kind=asked.get("kind"), page=asked.get("page"))
    )


@blueprint.route("/jobs/new", methods=["GET", "POST"])
def new() -> str | tuple[str, int] | AnyResponse:
    """The submit form, and what it sends."""
    if request.method == "GET":
        return _show_form(form.defaults(request.args))
    filled = form.read(request.form)
    if "look" in request.form:
        return _show_form(filled)
    try:
        submission = submit_body(
            get_installation(),
            current_account(),
            build_request(filled),
            form_key(request.form),
        )
    except UserError as error:
        return _show_form(filled, error), status_of(error)
    for warning in submission.warnings:
        flash(f"Submitted, but: {warning}", "warning")
    if len(submission.job_ids) == 1:
        return redirect(url_for("jobs.show", job_id=submission.job_ids[0]))
    return redirect(url_for("jobs.group_page", group_key=submission.group_key))


@blueprint.post("/jobs/new/sweep")
def count_sweep() -> Response:
    """How many trainings a sweep makes, or why it does not; changes nothing."""
    return jsonify(form_page.count_sweep())


@blueprint.post("/jobs/new/expected")
def expect() -> str:
    """What forecasts tell of what the form holds; changes nothing."""
    return render_template("jobs/_expected.html", **form_page.make_expected())


@blueprint.get("/jobs/<int:job_id>")
def show(job_id: int) -> str:
    """One job: its progress, curves, attempts, checkpoints, log and result."""
    return render_template(
        "jobs/show.html", bokeh_version=BOKEH_VERSION, **pages.make_page(job_id)
    )


@blueprint.get("/jobs/<int:job_id>/live")
def live(job_id: int) -> Response:
    """The part of a job's page that changes, for polling."""
    values = pages.make_live(job_id)
    response = polling.fragment("jobs/_live.html", **values)
    if values["job"].terminal:
        response.headers["X-Poll"] = "stop"  # the page reloads once, with its result
    return response


@blueprint.get("/jobs/<int:job_id>/runs")
def runs(job_id: int) -> Response:
    """Notes, attempts and checkpoints, for polling."""
    return polling.fragment("jobs/_runs.html", **pages.make_runs(job_id))


@blueprint.get("/jobs/<int:job_id>/log")
def log(job_id: int) -> Response:
    """The end of the log, for polling."""
    return polling.fragment("jobs/_log.html", lines=pages.read_log(job_id))


@blueprint.get("/jobs/<int:job_id>/charts.json")
def charts(job_id: int) -> Response:
    """Both charts as BokehJS reads them, without data."""
    with get_database().reading() as session:
        job_read_store.get_job(session, job_id)
    # Bokeh takes a second to import; most requests never need it.
    from web.jobs.charts import build_charts  # noqa: PLC0415

    return jsonify(build_charts())


@blueprint.get("/jobs/<int:job_id>/points.json")
def points(job_id: int) -> Response:
    """The data of charts and table, for polling."""
    with get_database().reading() as session:
        job_read_store.get_job(session, job_id)
        rows = curves.collect_epochs(job_read_store.metrics_curve(session, job_id))
    return polling.data(curves.as_json(rows))


@blueprint.post("/jobs/<int:job_id>/ask/<verb>")
def ask(job_id: int, verb: str) -> AnyResponse:
    """Asks something of a job: cancel, pause, resume, finish, retry, restart."""
    state = ask_job(get_installation(), current_account(), job_id, verb)
    flash(f"{ASKS[verb].words}: asked. The job is {state}.", "success")
    return redirect(url_for("jobs.show", job_id=job_id))


@blueprint.route("/jobs/<int:job_id>/delete", methods=["GET", "POST"])
def delete(job_id: int) -> str | AnyResponse:
    """Says what goes with a job; the POST deletes it."""
    here, account = get_installation(), current_account()
    if request.method == "POST":
        plan = delete_job(here, account, job_id)
        flash(f"{plan.title} is deleted.", "success")
        return redirect(url_for("jobs.index"))
    return show_plan(
        plan_deletion(here, account, job_id),
        back=url_for("jobs.show", job_id=job_id),
        words="the job",
    )


@blueprint.get("/groups/<group_key>")
def group_page(group_key: str) -> str:
    """All jobs of one submission."""
    return render_template(
        "jobs/group.html", bokeh_version=BOKEH_VERSION, **group.make_page(group_key)
    )


@blueprint.post("/groups/<group_key>/ask/<verb>")
def ask_group(group_key: str, verb: str) -> AnyResponse:
    """Asks something of all jobs of a submission: cancel, pause, resume, retry."""
    asked = ask_all(get_installation(), current_account(), group_key, verb)
    left = f"; {asked.left} could not be" if asked.left else ""
    count = len(asked.done)
    were = "1 job was asked" if count == 1 else f"{count} jobs were asked"
    flash(f"{ASKS[verb].words}: {were}{left}.", "success")
    return redirect(url_for("jobs.group_page", group_key=group_key))


@blueprint.get("/groups/<group_key>/table")
def group_table(group_key: str) -> Response:
    """The table of a submission, for polling."""
    values = group.make_page(group_key)
    response = polling.fragment("jobs/_group_table.html", **values)
    if not values["live"]:
        response.headers["X-Poll"] = "stop"
    return response


@blueprint.get("/groups/<group_key>/charts.json")
def group_charts(group_key: str) -> Response:
    """The charts of a submission as BokehJS reads them, without data."""
    axes = group.read_axes(group_key)
    # Bokeh takes a second to import; most requests never need it.
    from web.jobs.charts import build_comparison_charts  # noqa: PLC0415

    return jsonify(build_comparison_charts(axes, MAX_CURVES))


@blueprint.get("/groups/<group_key>/points.json")
def group_points(group_key: str) -> Response:
    """The data of a submission's charts, for polling."""
    points, live = group.read_points(group_key)
    response = polling.data(points)
    if not live:
        response.headers["X-Poll"] = "stop"
    return response


@blueprint.get("/groups/<group_key>/archive")
def group_archive(group_key: str) -> Response:
    """All models of one submission as one zip, streamed."""
    return group.send_archive(group_key)


def _show_form(filled: form.Filled, error: UserError | None = None) -> str:
    return render_template("jobs/new.html", **form_page.make_form(filled, error))
