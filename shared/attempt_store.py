"""What workers do to jobs: claim, renew, complete, end (the job protocol).

`claim` gives an attempt its fence, and every later write carries it: a row that has
another fence, or is not running, is not written, and the caller gets `LostLease`. The
moves are those of `job_status.TRANSITIONS`; each is one conditional UPDATE with its
audit line in the same transaction. Everything may be run again after a lost answer.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, literal_column, select, update
from sqlalchemy.orm import Session

from shared import audit_store, queue_pause_store, user_limit_store, worker_store
from shared.attempt_end_store import end, end_left_behind
from shared.attempt_progress_store import (
    MetricPoint,
    add_metrics,
    add_note,
    count_divergences,
    count_memory_kills,
    find_final_checkpoint,
    list_resume_checkpoints,
    mark_checkpoint_corrupt,
    points_of,
    record_durable,
    record_progress,
    record_resumed,
    register_checkpoint,
)
from shared.attempt_result_store import (
    Completed,
    complete_forecast,
    complete_ingest,
    complete_train,
)
from shared.database import now_ms
from shared.errors import LostLease
from shared.job_order_store import CLAIM_ORDER
from shared.job_status import Desired, JobKind, JobStatus
from shared.retry_policy import LOSSES
from shared.tables import Attempt, Dataset, DatasetVersion, Job, Worker

__all__ = [
    "Claim",
    "Completed",
    "MetricPoint",
    "add_metrics",
    "add_note",
    "claim",
    "complete_forecast",
    "complete_ingest",
    "complete_train",
    "count_divergences",
    "count_memory_kills",
    "end",
    "end_left_behind",
    "find_final_checkpoint",
    "list_resume_checkpoints",
    "mark_checkpoint_corrupt",
    "points_of",
    "record_durable",
    "record_progress",
    "record_resumed",
    "register_checkpoint",
    "renew",
]

MAX_ORPHANS = 100  # jobs without their data that one claim sorts out on its way


@dataclass(frozen=True)
class Claim:
    """A job that this attempt owns until its lease runs out."""

    job_id: int
    kind: str
    fence: int
    attempt_uuid: str
    lineage: int
    last_step: int
    spec: dict[str, Any]
    dataset_id: int | None
    dataset_version_id: int | None
    model_id: int | None
    title: str
    owner_id: int


def claim(
    session: Session,
    *,
    attempt_uuid: str,
    worker_id: int,
    host: str,
    slot: str,
    kinds: list[str],
    queues: list[str],
    gpu_mem_mb: int,
    lease_ms: int,
    max_running_per_user: int | None = None,
) -> Claim | None:
    """Takes the best job that waits, or returns None: there is one winner per job.

    The order is priority, then fairness between owners, then where a user has put it,
    then age. Nothing is taken from a queue that is paused. A job whose last attempt got
    nowhere on this very worker is left to others for the time of a lease: a slot that
    fails every job must not spend the whole budget of one.

    Args:
        session: The writing session.
        attempt_uuid: Made by the worker before its first try, so that a claim whose
            answer got lost is found again and not made twice.
        worker_id: Its row among the workers; only an active one gets a job.
        host: Of the worker, for the user to see.
        slot: `cpu`, `gpu-<uuid>`, `gpus-<index>-...` or `ingest`.
        kinds: Of jobs that this slot does.
        queues: Values of `jobs.queue` that this slot serves.
        gpu_mem_mb: Memory of its GPU, MiB; 0 without one.
        lease_ms: How long the job is this attempt's without renewal.
        max_running_per_user: Trainings of one user at once, where an admin has not
            said otherwise for that user.
    """
    mine = _find_claimed(session, attempt_uuid)
    if mine is not None:
        return mine
    status = session.scalar(select(Worker.status).where(Worker.id == worker_id))
    if status is not None and status != "active":
        return None
    full_owners = user_limit_store.list_full_alone(session, max_running_per_user)
    paused = queue_pause_store.list_paused(session)
    queues = [name for name in queues if name not in paused]
    if not queues:
        return None
    for _ in range(MAX_ORPHANS):
        job = _take_first(
            session,
            kinds,
            worker_id=worker_id,
            queues=queues,
            gpu_mem_mb=gpu_mem_mb,
            lease_ms=lease_ms,
            full_owners=full_owners,
            leaves_own_failures=not worker_store.is_alone(
                session, worker_id, kinds=kinds, queues=queues
            ),
        )
        if job is None:
            return None
        orphaned = _find_missing(session, job)
        uuid = attempt_uuid if orphaned is None else f"{attempt_uuid}-{job.id}"
        _open_attempt(session, job, uuid, worker_id=worker_id, host=host, slot=slot)
        if orphaned is None:
            return _build_claim(job, attempt_uuid)
        end(
            session,
            job.id,
            job.fence,
            outcome="failed",
            charge=False,
            permanent=True,
            reason=orphaned,
            failure_code="data_deleted",
        )
    return None


def renew(session: Session, job_id: int, fence: int, *, lease_ms: int) -> str:
    """Extends the lease, and returns what the user wants of the job (`Desired`).

    Raises:
        LostLease: When the attempt no longer owns the job: kill the child now.
    """
    desired = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state == JobStatus.RUNNING)
        .values(hb=Job.hb + 1, lease_until=now_ms() + lease_ms)
        .returning(Job.desired)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if desired is None:
        raise LostLease(f"job {job_id}, attempt {fence}")
    return desired


def _find_claimed(session: Session, attempt_uuid: str) -> Claim | None:
    job = session.scalars(
        select(Job)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence))
        .where(Attempt.uuid == attempt_uuid, Job.state == JobStatus.RUNNING)
    ).one_or_none()
    return _build_claim(job, attempt_uuid) if job is not None else None


def _take_first(
    session: Session, kinds: list[str], *, lease_ms: int, worker_id: int, **facts: Any
) -> Job | None:
    """Takes the best job of all these kinds."""
    where = _make_conditions(worker_id=worker_id, lease_ms=lease_ms, **facts)
    jobs = (
        _take_best(
            session,
            [*where, Job.kind.in_(turn)],
            worker_id=worker_id,
            lease_ms=lease_ms,
        )
        for turn in _list_turns(session, kinds, where)
    )
    return next((job for job in jobs if job is not None), None)


def _list_turns(
    session: Session, kinds: list[str], where: list[ColumnElement[bool]]
) -> list[list[str]]:
    """Returns the kinds in the turns in which to look for a job: the better job first.

    Forecasts are looked for by themselves, so that each question walks the index; all
    kinds at once would be sorted anew at each claim.
    """
    forecasts = [kind for kind in kinds if kind == JobKind.FORECAST]
    others = [kind for kind in kinds if kind != JobKind.FORECAST]
    if not forecasts or not others:
        return [kinds]
    first = _look(session, [*where, Job.kind.in_(forecasts)])
    if first is None:
        return [others]
    other = _look(session, [*where, Job.kind.in_(others)])
    if other is None or first < other:
        return [forecasts, others]
    return [others, forecasts]


def _look(
    session: Session, where: list[ColumnElement[bool]]
) -> tuple[int, int, int, int] | None:
    """Returns where the best of these jobs stands, the smaller the sooner."""
    row = session.execute(
        select(Job.priority, Job.fair_rank, Job.place, Job.id)
        .where(*where)
        .order_by(*CLAIM_ORDER)
        .limit(1)
    ).one_or_none()
    return None if row is None else (-row.priority, row.fair_rank, row.place, row.id)


def _make_conditions(
    *,
    worker_id: int,
    queues: list[str],
    gpu_mem_mb: int,
    lease_ms: int,
    full_owners: list[int],
    leaves_own_failures: bool,
) -> list[ColumnElement[bool]]:
    """Returns what a job must be that this worker may take, but for its kind."""
    return [
        # In so many words, not as a parameter: only then does a plan made before its
        # values are known use the index over queued jobs.
        Job.state == literal_column(f"'{JobStatus.QUEUED}'"),
        # "Finish now" outlives an attempt that died of something else.
        Job.desired.in_([Desired.RUN, Desired.FINISH]),
        Job.queue.in_(queues),
        Job.gpu_mem_mb <= gpu_mem_mb,
        Job.not_before <= now_ms(),
        *([~_is_held_back(full_owners)] if full_owners else []),
        *([~_just_failed_on(worker_id, lease_ms)] if leaves_own_failures else []),
    ]


def _take_best(
    session: Session,
    where: list[ColumnElement[bool]],
    *,
    worker_id: int,
    lease_ms: int,
) -> Job | None:
    # PostgreSQL may run a plain subquery again and take several rows: MATERIALIZED,
    # `=` instead of IN, and the state named twice keep it at one.
    best = (
        select(Job.id)
        .where(*where)
        .order_by(*CLAIM_ORDER)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("best")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    now = now_ms()
    return session.scalars(
        update(Job)
        .where(
            Job.id == select(best.c.id).scalar_subquery(),
            Job.state == JobStatus.QUEUED,
        )
        .values(
            state=JobStatus.RUNNING,
            fence=Job.fence + 1,
            hb=Job.hb + 1,
            worker_id=worker_id,
            lease_until=now + lease_ms,
            attempts=Job.attempts + 1,
            attempt_start_step=Job.last_step,
            attempt_start_durable=Job.durable,
            started_at=now,
            updated_at=now,
            phase=None,
            eta_seconds=None,
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    ).one_or_none()


def _is_held_back(full_owners: list[int]) -> ColumnElement[bool]:
    return (Job.kind == JobKind.TRAIN) & Job.owner_id.in_(full_owners)


def _just_failed_on(worker_id: int, lease_ms: int) -> ColumnElement[bool]:
    """Whether a job became due a moment ago, after it got nowhere on this worker."""
    got_nowhere = exists().where(
        Attempt.job_id == Job.id,
        Attempt.fence == Job.fence,
        Attempt.worker_id == worker_id,
        Attempt.charged | Attempt.outcome.in_(LOSSES),
        Attempt.progressed.is_(False),
    )
    return (Job.not_before > now_ms() - lease_ms) & got_nowhere


def _open_attempt(
    session: Session, job: Job, uuid: str, *, worker_id: int, host: str, slot: str
) -> None:
    session.add(
        Attempt(
            job_id=job.id,
            fence=job.fence,
            uuid=uuid,
            worker_id=worker_id,
            host=host,
            slot=slot,
            started_at=now_ms(),
            start_step=job.last_step,
        )
    )
    session.flush()
    audit_store.record(
        session, f"worker:{worker_id}", "job_claimed", "job", job.id, fence=job.fence
    )


def _build_claim(job: Job, attempt_uuid: str) -> Claim:
    return Claim(
        job_id=job.id,
        kind=job.kind,
        fence=job.fence,
        attempt_uuid=attempt_uuid,
        lineage=job.lineage,
        last_step=job.last_step,
        spec=job.spec,
        dataset_id=job.dataset_id,
        dataset_version_id=job.dataset_version_id,
        model_id=job.model_id,
        title=job.title,
        owner_id=job.owner_id,
    )


def _find_missing(session: Session, job: Job) -> str | None:
    """Returns what to tell the user when the job's data is gone."""
    for table, number in (
        (Dataset, job.dataset_id),
        (DatasetVersion, job.dataset_version_id),
    ):
        if number is not None and session.get(table, number) is None:
            return "Its dataset has been deleted, so there is nothing to work on."
    return None
