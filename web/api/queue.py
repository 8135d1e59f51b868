"""The order of waiting jobs in the API: `/queue`, and moving a job in it."""

from dataclasses import asdict
from typing import Any

from shared import job_order_store, job_read_store
from shared.expected_starts import Expected
from web.api.blueprint import blueprint, current_account
from web.api.jobs import describe_plainly
from web.api.queue_schemas import (
    MoveRequest,
    PauseQueueRequest,
    PriorityRequest,
    QueueAnswer,
    QueueQuery,
    QueueStates,
    ResumeQueueRequest,
    WaitingList,
)
from web.api.schemas import JobOut, JobPath
from web.installation import get_database, get_installation
from web.jobs import order, queues


@blueprint.get("/queue", responses={"200": WaitingList})
def list_queue(query: QueueQuery) -> dict[str, Any]:
    """Lists the jobs that wait, the next one to start first."""
    expected = get_installation().outlook.look()
    with get_database().reading() as session:
        found = job_order_store.list_waiting(
            session, query.kind, page=query.page, page_size=query.page_size
        )
        before = (found.page - 1) * found.page_size
        items = [
            {
                **describe_plainly(job),
                "position": before + number,
                "queue": job.queue,
                "not_before": job.not_before,
                **_tell(expected.get(job.id)),
            }
            for number, job in enumerate(found.items, start=1)
        ]
    return {
        "items": items,
        "total": found.total,
        "page": found.page,
        "page_size": found.page_size,
    }


@blueprint.post("/jobs/<int:job_id>/move", responses={"200": JobOut})
def move_job(path: JobPath, body: MoveRequest) -> dict[str, Any]:
    """Moves a waiting job in the queue; it takes the priority of its new neighbour."""
    wish = order.Wish(to=body.to, before=body.before, after=body.after)
    order.move(get_installation(), current_account(), path.job_id, wish)
    return _describe(path.job_id)


@blueprint.post("/jobs/<int:job_id>/priority", responses={"200": JobOut})
def set_priority(path: JobPath, body: PriorityRequest) -> dict[str, Any]:
    """Gives a queued or paused job another priority."""
    order.set_priority(
        get_installation(), current_account(), path.job_id, body.priority
    )
    return _describe(path.job_id)


@blueprint.get("/queues", responses={"200": QueueStates})
def list_queues() -> dict[str, Any]:
    """Lists every queue, what is in it, and whether it is paused."""
    items = [asdict(state) for state in queues.list_queues(get_installation())]
    return {"items": items}


@blueprint.post("/queues/pause", responses={"200": QueueAnswer})
def pause_queue(body: PauseQueueRequest) -> dict[str, Any]:
    """Starts no more jobs from a queue; for admins."""
    jobs = queues.pause(
        get_installation(), current_account(), body.queue, running_too=body.running_too
    )
    return {"queue": body.queue, "jobs": jobs}


@blueprint.post("/queues/resume", responses={"200": QueueAnswer})
def resume_queue(body: ResumeQueueRequest) -> dict[str, Any]:
    """Starts jobs from a queue again; for admins."""
    jobs = queues.resume(
        get_installation(), current_account(), body.queue, paused_too=body.paused_too
    )
    return {"queue": body.queue, "jobs": jobs}


def _tell(expected: Expected | None) -> dict[str, int | None]:
    return {
        "expected_start_at": expected.starts_at if expected else None,
        "expected_end_at": expected.ends_at if expected else None,
    }


def _describe(job_id: int) -> dict[str, Any]:
    with get_database().reading() as session:
        return describe_plainly(job_read_store.get_job(session, job_id))
