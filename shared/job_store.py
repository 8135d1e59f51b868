"""What users ask of jobs: submit, cancel, pause, resume, finish now, retry, delete.

Each request is one conditional UPDATE that names the states it may start from; a
request that `job_status.TRANSITIONS` does not list changes nothing and is answered
with `ConflictError`. What workers do to jobs is in `attempt_store`.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, case, update
from sqlalchemy.orm import Session

from shared import audit_store, promise_store, upload_use_store
from shared.database import now_ms
from shared.errors import ConflictError, NotFoundError
from shared.job_delete_store import delete_job, deletion_plan
from shared.job_status import Desired, JobKind, JobStatus
from shared.job_submit_store import (
    NewJob,
    Submitted,
    check_values,
    hold_dataset,
    next_fair_rank,
    submit,
    submit_all,
)
from shared.tables import Job

__all__ = [
    "NewJob",
    "Submitted",
    "cancel",
    "delete_job",
    "deletion_plan",
    "finish_now",
    "is_admitted",
    "pause",
    "resume",
    "retry",
    "set_priority",
    "submit",
    "submit_all",
]


_GIVING_WAY = (
    (Job.state == JobStatus.RUNNING)
    & (Job.desired == Desired.PAUSE)
    & Job.gives_way_to.is_not(None)
)
_RETRIED = (JobStatus.FAILED, JobStatus.CANCELLED)


def is_admitted(ask: Callable[[], object]) -> bool:
    """Carries one of these requests out; whether its job admitted it.

    For requests to many jobs, of which some have ended, or gone, since they were seen.
    """
    try:
        ask()
    except (ConflictError, NotFoundError):
        return False
    return True


def cancel(session: Session, job_id: int, *, actor: str) -> str:
    """Cancels a waiting job at once, a running one at its next heartbeat.

    Returns:
        The job's state: `cancelled`, or `running` while its attempt winds down.

    Raises:
        ConflictError: When the job has ended.
        NotFoundError: When there is no such job.
    """
    waiting = Job.state.in_([JobStatus.QUEUED, JobStatus.PAUSED])
    return _move(
        session,
        job_id,
        actor,
        "cancel",
        allowed=Job.state.in_([JobStatus.QUEUED, JobStatus.PAUSED, JobStatus.RUNNING]),
        values={
            "desired": Desired.CANCEL,
            "gives_way_to": None,
            "state": case((waiting, JobStatus.CANCELLED), else_=Job.state),
            "ended_at": case((waiting, now_ms()), else_=Job.ended_at),
            "eta_seconds": None,
        },
        goal=lambda job: job.state == JobStatus.CANCELLED,
    )


def pause(session: Session, job_id: int, *, actor: str) -> str:
    """Sets a queued job aside; a running one saves its state and stops first.

    Raises:
        ConflictError: Unless the job is queued, or running with no other request of
            a user's.
        NotFoundError: When there is no such job.
    """
    return _move(
        session,
        job_id,
        actor,
        "pause",
        allowed=(Job.state == JobStatus.QUEUED)
        | ((Job.state == JobStatus.RUNNING) & (Job.desired == Desired.RUN))
        | _GIVING_WAY,
        values={
            "desired": Desired.PAUSE,
            "gives_way_to": None,
            "state": case(
                (Job.state == JobStatus.QUEUED, JobStatus.PAUSED), else_=Job.state
            ),
        },
        goal=lambda job: (
            job.desired == Desired.PAUSE
            and job.gives_way_to is None
            and job.state in {JobStatus.PAUSED, JobStatus.RUNNING}
        ),
    )


def resume(session: Session, job_id: int, *, actor: str) -> str:
    """Puts a paused job back into the queue, or takes back a request to pause.

    Raises:
        ConflictError: Unless the job is paused or pausing.
        NotFoundError: When there is no such job.
    """
    pausing = (
        (Job.state == JobStatus.RUNNING)
        & (Job.desired == Desired.PAUSE)
        & Job.gives_way_to.is_(None)
    )
    promise_store.forget(session, (Job.id == job_id) & (Job.state == JobStatus.PAUSED))
    return _move(
        session,
        job_id,
        actor,
        "resume",
        allowed=(Job.state == JobStatus.PAUSED) | pausing,
        values={
            "desired": Desired.RUN,
            "state": case(
                (Job.state == JobStatus.PAUSED, JobStatus.QUEUED), else_=Job.state
            ),
            "not_before": 0,
            "gives_way_to": None,
        },
        goal=lambda job: (
            job.desired == Desired.RUN
            and job.state in {JobStatus.QUEUED, JobStatus.RUNNING}
        ),
    )


def finish_now(session: Session, job_id: int, *, actor: str) -> str:
    """Asks a running job to end its training, and to publish the best so far.

    Raises:
        ConflictError: Unless the job is running with no other request.
        NotFoundError: When there is no such job.
    """
    return _move(
        session,
        job_id,
        actor,
        "finish_now",
        allowed=(Job.state == JobStatus.RUNNING) & (Job.desired == Desired.RUN),
        values={"desired": Desired.FINISH},
        goal=lambda job: (
            job.state == JobStatus.RUNNING and job.desired == Desired.FINISH
        ),
    )


def retry(
    session: Session, job_id: int, *, actor: str, from_scratch: bool = False
) -> str:
    """Queues a failed or cancelled job again, with fresh budgets and the same fence.

    Args:
        session: The writing session.
        job_id: The job.
        actor: Who asks.
        from_scratch: Begin anew instead of from the newest checkpoint.

    Raises:
        ConflictError: Unless the job failed or was cancelled, its dataset exists and
            its uploads are still its own.
        NotFoundError: When there is no such job.
    """
    job = _get(session, job_id)
    try:
        hold_dataset(session, job.dataset_id, job.dataset_version_id)
    except NotFoundError as error:
        raise ConflictError(
            f"Job {job_id} cannot run again: its dataset was deleted."
        ) from error
    if job.kind == JobKind.INGEST:
        uploads = upload_use_store.find_uploads(job.spec)
        upload_use_store.hold(session, job.owner_id, uploads, job_id=job_id)
    values: dict[str, Any] = {
        "state": JobStatus.QUEUED,
        "desired": Desired.RUN,
        "not_before": 0,
        "gives_way_to": None,
        "place": 0,
        "fair_rank": next_fair_rank(
            session, job.owner_id, job.kind, job.queue, job.priority
        ),
        **dict.fromkeys(("noprog", "lost", "failures", "attempts", "running_ms"), 0),
        **dict.fromkeys(("reason", "failure_code", "result", "ended_at"), None),
        **dict.fromkeys(("phase", "progress_unit", "eta_seconds"), None),
        **dict.fromkeys(("progress_done", "progress_total"), 0),
    }
    promise_store.forget(session, (Job.id == job_id) & Job.state.in_(_RETRIED))
    if from_scratch:
        values |= {
            "lineage": Job.lineage + 1,
            "last_step": 0,
            "attempt_start_step": 0,
        }
    return _move(
        session,
        job_id,
        actor,
        "retry",
        allowed=Job.state.in_(_RETRIED),
        values=values,
        goal=lambda job: job.state in {JobStatus.QUEUED, JobStatus.RUNNING},
        detail={"from_scratch": from_scratch},
    )


def set_priority(session: Session, job_id: int, priority: int, actor: str) -> str:
    """Changes the place of a waiting job; higher runs earlier.

    Raises:
        ConflictError: Unless the job is queued or paused.
        NotFoundError: When there is no such job.
        UserError: When `priority` is not from -100 to 100.
    """
    job = _get(session, job_id)
    check_values(job.kind, priority, 0)
    rank = next_fair_rank(session, job.owner_id, job.kind, job.queue, priority)
    return _move(
        session,
        job_id,
        actor,
        "set_priority",
        allowed=Job.state.in_([JobStatus.QUEUED, JobStatus.PAUSED]),
        values={"priority": priority, "fair_rank": rank, "place": 0},
        goal=lambda job: job.priority == priority,
        detail={"priority": priority},
    )


_VERBS = {
    "cancel": ("job_cancel_asked", "queued, paused or running", "cancelled"),
    "pause": ("job_pause_asked", "queued, or running and not stopping", "paused"),
    "resume": ("job_resumed", "paused or pausing", "resumed"),
    "finish_now": ("job_finish_asked", "running and not stopping", "finished early"),
    "retry": ("job_retried", "failed or cancelled", "tried again"),
    "set_priority": ("job_priority_set", "queued or paused", "moved in the queue"),
}


def _move(
    session: Session,
    job_id: int,
    actor: str,
    verb: str,
    *,
    allowed: ColumnElement[bool],
    values: dict[str, Any],
    goal: Callable[[Job], bool],
    detail: dict[str, Any] | None = None,
) -> str:
    event, needs, participle = _VERBS[verb]
    moved = session.execute(
        update(Job)
        .where(Job.id == job_id, allowed)
        .values(updated_at=now_ms(), **values)
        .returning(Job.state, Job.fence)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if moved is not None:
        audit_store.record(
            session, actor, event, "job", job_id, detail, fence=moved.fence
        )
        return moved.state
    job = _get(session, job_id)
    # The answer to our COMMIT may have been lost: then it is done, not refused.
    if session.info.get("retrying") and goal(job):
        return job.state
    state = job.state if job.desired == Desired.RUN else f"{job.state} ({job.desired})"
    raise ConflictError(
        f"Job {job_id} is {state}; only a job that is {needs} can be {participle}."
    )


def _get(session: Session, job_id: int) -> Job:
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise NotFoundError(f"There is no job {job_id}.")
    return job
