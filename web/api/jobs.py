"""`/jobs` and `/groups` of the API: the use cases of the pages, as JSON."""

from collections import Counter
from typing import Any

from flask import Response, abort, request
from pydantic import ValidationError
from sqlalchemy.orm import Session

from shared import job_read_store
from shared.progress_words import find_rate
from shared.tables import Attempt, Checkpoint, Job, Note
from web.api.blueprint import IdempotencyHeader, blueprint, current_account
from web.api.problems import ARCHIVE, describe_body, refuse_invalid_request
from web.api.schemas import (
    Deleted,
    EventsOut,
    GroupAnswer,
    GroupOut,
    GroupPath,
    GroupVerbPath,
    JobDetail,
    JobList,
    JobOut,
    JobPath,
    JobQuery,
    MetricsOut,
    RetryRequest,
    Submitted,
)
from web.api.submit_schemas import JobsRequest
from web.deleting import describe_deleted
from web.installation import get_database, get_installation
from web.jobs import asks, curves, delete, group, log_tail
from web.jobs.submit_body import submit_body
from web.jobs.view import VersionName, find_version, find_versions, make_attempt


@blueprint.get("/jobs", responses={"200": JobList})
def list_jobs(query: JobQuery) -> dict[str, Any]:
    """Lists jobs, the newest first."""
    with get_database().reading() as session:
        found = job_read_store.list_jobs(
            session,
            states=[query.state] if query.state else None,
            kind=query.kind,
            dataset_id=query.dataset_id,
            group_key=query.group_key,
            page=query.page,
            page_size=query.page_size,
        )
        versions = find_versions(session, found.items)
        items = [describe_plainly(job, versions.get(job.id)) for job in found.items]
    return {
        "items": items,
        "total": found.total,
        "page": found.page,
        "page_size": found.page_size,
    }


@blueprint.post("/jobs", responses={"201": Submitted, "200": Submitted})
def submit_jobs(
    body: JobsRequest, header: IdempotencyHeader
) -> tuple[dict[str, Any], int]:
    """Submits every dataset with every spec, all or none."""
    here = get_installation()
    submission = submit_body(here, current_account(), body, header.idempotency_key)
    with here.database.reading() as session:
        made = job_read_store.get_jobs(session, submission.job_ids)
        versions = find_versions(session, made)
        jobs = [describe_plainly(job, versions.get(job.id)) for job in made]
    answer = {
        "group_key": submission.group_key,
        "created": submission.created,
        "jobs": jobs,
        "warnings": submission.warnings,
    }
    return answer, 201 if submission.created else 200


@blueprint.get("/jobs/<int:job_id>", responses={"200": JobDetail})
def get_job(path: JobPath) -> dict[str, Any]:
    """One job with its spec, attempts, checkpoints and notes."""
    with get_database().reading() as session:
        job = job_read_store.get_job(session, path.job_id)
        values = {
            **describe(session, job),
            "spec": job.spec.get("training", {}),
            "attempt_list": [
                _attempt(a) for a in job_read_store.list_attempts(session, job.id)
            ],
            "checkpoints": [
                _checkpoint(c) for c in job_read_store.list_checkpoints(session, job.id)
            ],
            "notes": [_note(n) for n in job_read_store.list_notes(session, job.id)],
        }
    return JobDetail.model_validate(values).model_dump(mode="json")


@blueprint.get("/jobs/<int:job_id>/metrics", responses={"200": MetricsOut})
def get_metrics(path: JobPath) -> dict[str, Any]:
    """The learning curves, one row an epoch, without gaps or doubles."""
    with get_database().reading() as session:
        job_read_store.get_job(session, path.job_id)
        points = job_read_store.metrics_curve(session, path.job_id)
    return {"epochs": curves.as_metrics(curves.collect_epochs(points))}


@blueprint.get("/jobs/<int:job_id>/events", responses={"200": EventsOut})
def get_events(path: JobPath) -> dict[str, Any]:
    """The end of the newest attempt's log."""
    here = get_installation()
    with here.database.reading() as session:
        job_read_store.get_job(session, path.job_id)
        attempts = job_read_store.list_attempts(session, path.job_id)
    if not attempts:
        return {"events": []}
    newest = max(attempts, key=lambda attempt: attempt.fence)
    folder = here.storage.attempt(path.job_id, newest.fence, newest.uuid)
    return {"events": log_tail.read_events(folder)}


@blueprint.post("/jobs/<int:job_id>/cancel", responses={"200": JobOut})
def cancel_job(path: JobPath) -> dict[str, Any]:
    """Stops a job; nothing is published."""
    return _ask(path.job_id, "cancel")


@blueprint.post("/jobs/<int:job_id>/pause", responses={"200": JobOut})
def pause_job(path: JobPath) -> dict[str, Any]:
    """Saves a job's state and frees its worker."""
    return _ask(path.job_id, "pause")


@blueprint.post("/jobs/<int:job_id>/resume", responses={"200": JobOut})
def resume_job(path: JobPath) -> dict[str, Any]:
    """Puts a paused job back in the queue."""
    return _ask(path.job_id, "resume")


@blueprint.post("/jobs/<int:job_id>/finish", responses={"200": JobOut})
def finish_job(path: JobPath) -> dict[str, Any]:
    """Ends training now and publishes the best so far."""
    return _ask(path.job_id, "finish")


@blueprint.post(
    "/jobs/<int:job_id>/retry",
    responses={"200": JobOut},
    openapi_extensions=describe_body(RetryRequest),
)
def retry_job(path: JobPath) -> dict[str, Any]:
    """Queues a failed or cancelled job again; the body may ask for a fresh start."""
    wish = RetryRequest()
    if request.data:
        try:
            wish = RetryRequest.model_validate(request.get_json(silent=True))
        except ValidationError as error:
            abort(refuse_invalid_request(error))
    return _ask(path.job_id, "restart" if wish.from_scratch else "retry")


@blueprint.delete("/jobs/<int:job_id>", responses={"200": Deleted})
def delete_job(path: JobPath) -> dict[str, Any]:
    """Deletes a job that has ended, with its checkpoints and log."""
    plan = delete.delete_job(get_installation(), current_account(), path.job_id)
    return describe_deleted(plan)


@blueprint.get("/groups/<group_key>", responses={"200": GroupOut})
def get_group(path: GroupPath) -> dict[str, Any]:
    """One submission: how many of its jobs are where, and which they are."""
    with get_database().reading() as session:
        jobs = job_read_store.list_group(session, path.group_key)
        versions = find_versions(session, jobs)
        states = Counter(job.state for job in jobs)
        items = [describe_plainly(job, versions.get(job.id)) for job in jobs]
    return {"group_key": path.group_key, "states": states, "jobs": items}


@blueprint.post("/groups/<group_key>/<verb>", responses={"200": GroupAnswer})
def ask_group(path: GroupVerbPath) -> dict[str, Any]:
    """Asks something of every job of a submission that admits it."""
    asked = asks.ask_all(
        get_installation(), current_account(), path.group_key, path.verb
    )
    return {"jobs": asked.done, "left": asked.left}


@blueprint.get("/groups/<group_key>/archive", responses={"200": ARCHIVE})
def get_group_archive(path: GroupPath) -> Response:
    """All models of one submission as one zip, streamed."""
    return group.send_archive(path.group_key)


def describe(session: Session, job: Job) -> dict[str, Any]:
    """Returns a job, read with its owner, dataset and model, as the API gives it."""
    return describe_plainly(job, find_version(session, job))


def describe_plainly(job: Job, version: VersionName | None = None) -> dict[str, Any]:
    """Returns the same of a job with what it has published, or nothing."""
    values = {
        **{name: getattr(job, name) for name in JobOut.model_fields if name in _PLAIN},
        "owner": job.owner.email,
        "model_name": job.model.name if job.model else None,
        "published": f"{version.name}:{version.version}" if version else None,
        "rate": find_rate(job.progress_done, job.progress_total, job.eta_seconds),
    }
    return JobOut.model_validate(values).model_dump(mode="json")


_PLAIN = frozenset(Job.__mapper__.columns.keys())


def _ask(job_id: int, verb: str) -> dict[str, Any]:
    asks.ask(get_installation(), current_account(), job_id, verb)
    with get_database().reading() as session:
        return describe(session, job_read_store.get_job(session, job_id))


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {**make_attempt(attempt), "ended_at": attempt.ended_at}


def _checkpoint(row: Checkpoint) -> dict[str, Any]:
    names = ("step", "fence", "kind", "metric", "size_bytes", "status", "created_at")
    return {name: getattr(row, name) for name in names}


def _note(row: Note) -> dict[str, Any]:
    names = ("level", "message", "fence", "created_at")
    return {name: getattr(row, name) for name in names}
