"""Gathers what the pages of jobs show, each in one short read of the database."""

from dataclasses import replace
from typing import Any

from flask import request, url_for
from sqlalchemy.orm import Session

from shared import (
    job_read_store,
    model_store,
    queue_pause_store,
    training_promise_store,
    worker_store,
)
from shared.job_status import JobKind, JobStatus
from shared.tables import Job
from web.auth.sign_in import current_account
from web.installation import get_database, get_installation
from web.jobs import curves, log_tail, order, queues
from web.jobs.asks import list_asks
from web.jobs.submit import describe_spec
from web.jobs.view import PAGE_SIZE, find_version, make_attempt, make_row
from web.models.evaluation import make_evaluation
from web.paging import Pager, asked_page
from web.permissions import may_change
from web.promises.view import PromiseRow, make_promise

KINDS = {
    JobKind.TRAIN: "Training",
    JobKind.INGEST: "Reading datasets",
    JobKind.FORECAST: "Forecasts",
}
MAX_NOTES = 50


def make_table() -> dict[str, Any]:
    """Returns the values of the table of jobs for the filters in the address."""
    state = request.args.get("state", "")
    state = state if state in list(JobStatus) else ""
    kind = _asked_kind()
    page = asked_page()
    with get_database().reading() as session:
        found = job_read_store.list_jobs(
            session, states=[state] if state else None, kind=kind, page=page,
            page_size=PAGE_SIZE,
        )  # fmt: skip
        counts = job_read_store.count_by_state(session, kind=kind)
        rows = [make_row(job) for job in found.items]
        workers_seen = any(
            kind in worker.kinds for worker in worker_store.list_workers(session)
        )
    return {
        "rows": rows,
        "pager": Pager(found.page, PAGE_SIZE, found.total, "jobs.index"),
        "filters": _make_filters(counts, state, kind),
        "filtered": bool(state) or kind != JobKind.TRAIN,
        "state_filter": state or None,
        "kind_filter": kind,
        "workers_seen": workers_seen,
        "waiting": counts.get(JobStatus.QUEUED, 0),
    }


def make_queue() -> dict[str, Any]:
    """Returns the values of the page of what waits."""
    kind = _asked_kind()
    rows, pager = order.list_waiting(
        get_installation(), current_account(), kind, asked_page()
    )
    filters = [
        {
            "words": KINDS[each],
            "current": kind == each,
            "address": url_for("jobs.queue", kind=_asked(each)),
        }
        for each in KINDS
    ]
    return {
        "rows": rows,
        "pager": pager,
        "filters": filters,
        "kind": _asked(kind),
        "queues": queues.list_queues(get_installation()),
    }


def make_page(job_id: int) -> dict[str, Any]:
    """Returns all values of one job's page."""
    values = {**make_runs(job_id), **make_live(job_id)}
    job = values["job"]
    with get_database().reading() as session:
        found = job_read_store.get_job(session, job_id)
        evaluation = _find_evaluation(session, found)
        points = curves.collect_epochs(job_read_store.metrics_curve(session, job_id))
        spec = found.spec.get("training", found.spec)
    return {
        **values,
        "evaluation": evaluation,
        "points": points,
        "waiting": curves.tell_waiting(points),
        "settings": describe_spec(spec) if job.kind == JobKind.TRAIN else [],
        "lines": read_log(job_id),
    }


def make_live(job_id: int) -> dict[str, Any]:
    """Returns the values of the part of a job's page that changes."""
    with get_database().reading() as session:
        job = job_read_store.get_job(session, job_id)
        return {
            "job": make_row(job),
            "allowed": may_change(current_account(), job),
            "asks": list_asks(job),
            "version": find_version(session, job),
            "expected": _expect(job),
            "promise": _find_promise(session, job_id),
            "queue_is_paused": job.queue in queue_pause_store.list_paused(session),
        }


def _find_promise(session: Session, job_id: int) -> PromiseRow | None:
    found = training_promise_store.find_promise(session, job_id)
    if found is None:
        return None
    elsewhere = None
    if found.seconds is not None:
        elsewhere = training_promise_store.find_elsewhere(session, job_id)
    return replace(make_promise(found), elsewhere=elsewhere)


def _expect(job: Job) -> tuple[float | None, float | None]:
    if job.state != JobStatus.QUEUED:
        return None, None
    return order.tell_wait(get_installation().outlook.look().get(job.id))


def make_runs(job_id: int) -> dict[str, Any]:
    """Returns the values of the notes, attempts and checkpoints of a job."""
    with get_database().reading() as session:
        attempts = job_read_store.list_attempts(session, job_id)
        return {
            "job": make_row(job_read_store.get_job(session, job_id)),
            "attempts": [make_attempt(attempt) for attempt in attempts],
            "checkpoints": job_read_store.list_checkpoints(session, job_id),
            "notes": job_read_store.list_notes(session, job_id)[:MAX_NOTES],
        }


def read_log(job_id: int) -> list[dict[str, str]]:
    """Returns the last lines of the newest attempt's log."""
    here = get_installation()
    with here.database.reading() as session:
        attempts = job_read_store.list_attempts(session, job_id)
    if not attempts:
        return []
    newest = max(attempts, key=lambda attempt: attempt.fence)
    folder = here.storage.attempt(job_id, newest.fence, newest.uuid)
    return log_tail.read_lines(folder)


def _make_filters(
    counts: dict[str, int], state: str, kind: str
) -> list[dict[str, Any]]:
    filters = [
        {
            "words": KINDS[JobKind(kind)] + ", all",
            "tally": sum(counts.values()),
            "current": not state,
            "address": url_for("jobs.index", kind=_asked(kind)),
        }
    ]
    filters += [
        {
            "words": each.value,
            "tally": counts.get(each, 0),
            "current": state == each,
            "address": url_for("jobs.index", state=each.value, kind=_asked(kind)),
        }
        for each in JobStatus
        if counts.get(each, 0) or each in {JobStatus.QUEUED, JobStatus.RUNNING}
    ]
    filters += [
        {
            "words": KINDS[other],
            "tally": None,
            "current": False,
            "address": url_for("jobs.index", kind=_asked(other)),
        }
        for other in KINDS
        if other != kind
    ]
    return filters


def _asked_kind() -> str:
    kind = request.args.get("kind", JobKind.TRAIN)
    return kind if kind in KINDS else JobKind.TRAIN


def _asked(kind: str) -> str | None:
    return None if kind == JobKind.TRAIN else kind


def _find_evaluation(session: Session, job: Job) -> dict[str, Any] | None:
    if job.state != JobStatus.SUCCEEDED or job.kind != JobKind.TRAIN:
        return None
    version = model_store.find_version_of_job(session, job.id)
    return make_evaluation(version.evaluation) if version else None
