"""What workers do to jobs: claim, renew, complete, end (the job protocol).

`claim` gives an attempt its fence, and every later write carries it: a row that has
another fence, or is not running, is not written, and the caller gets `LostLease`. The
moves are those of `job_status.TRANSITIONS`; each is one conditional UPDATE with its
audit line in the same transaction. Everything may be run again after a lost answer.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import literal_column, select, update
from sqlalchemy.orm import Session

from shared import audit_store
from shared.attempt_progress_store import (
    MetricPoint,
    add_metrics,
    add_note,
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
from shared.attempt_result_store import Completed, complete_ingest, complete_train
from shared.database import now_ms, read_clock
from shared.errors import LostLease
from shared.job_status import Desired, JobStatus, is_terminal
from shared.retry_policy import (
    LOSSES,
    Counters,
    Ending,
    Limits,
    Verdict,
    decide_end,
)
from shared.retry_policy import (
    backoff_ms as policy_backoff_ms,
)
from shared.settings import get_settings
from shared.tables import Attempt, Dataset, DatasetVersion, Job, Worker

__all__ = [
    "Claim",
    "Completed",
    "MetricPoint",
    "add_metrics",
    "add_note",
    "claim",
    "complete_ingest",
    "complete_train",
    "count_memory_kills",
    "end",
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

ERROR_TAIL_CHARS = 64 * 1024
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
) -> Claim | None:
    """Takes the best job that waits, or returns None: there is one winner per job.

    The order is priority, then fairness between owners, then age.

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
    """
    mine = _find_claimed(session, attempt_uuid)
    if mine is not None:
        return mine
    status = session.scalar(select(Worker.status).where(Worker.id == worker_id))
    if status is not None and status != "active":
        return None
    for _ in range(MAX_ORPHANS):
        job = _take_best(
            session,
            worker_id=worker_id,
            kinds=kinds,
            queues=queues,
            gpu_mem_mb=gpu_mem_mb,
            lease_ms=lease_ms,
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


def end(
    session: Session,
    job_id: int,
    fence: int,
    *,
    outcome: str,
    charge: bool,
    permanent: bool = False,
    user_failure: bool = False,
    reason: str | None = None,
    failure_code: str | None = None,
    exit_code: int | None = None,
    signal: int | None = None,
    oom: bool = False,
    error_tail: str | None = None,
    backoff_ms: int | None = None,
    limits: Limits | None = None,
    actor: str | None = None,
) -> str:
    """Ends an attempt for any reason but success; decides what becomes of the job.

    Args:
        session: The writing session.
        job_id: The job.
        fence: The attempt.
        outcome: See `retry_policy.Ending`.
        charge: Whether the job's budget pays, unless the attempt made progress.
        permanent: Trying again cannot help: the job fails.
        user_failure: It was an exception of the training code.
        reason: A sentence for the user.
        failure_code: A word for programs.
        exit_code: Of the child process.
        signal: That ended it.
        oom: The kernel killed it for memory.
        error_tail: The last of its output; 64 KiB are kept.
        backoff_ms: Wait before the next attempt. Defaults to the policy's.
        limits: The budgets. Default to the settings'.
        actor: For the audit. Defaults to the attempt's worker.

    Returns:
        The job's new state, or its present one when this ending is on record already.

    Raises:
        LostLease: When the attempt no longer owns the job.
    """
    job = session.scalars(
        select(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state == JobStatus.RUNNING)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if job is None:
        return _find_ended(session, job_id, fence, outcome)
    attempt = session.get_one(Attempt, (job_id, fence), populate_existing=True)
    limits = limits or Limits.from_settings(get_settings())
    ending = Ending(outcome, charge, permanent, user_failure)
    progressed = _has_progressed(job)
    spent = Counters(job.noprog, job.lost, job.failures, job.attempts, progressed)
    verdict = decide_end(job.desired, ending, spent, limits)
    if backoff_ms is None:
        backoff_ms = policy_backoff_ms(ending, verdict, limits)
    why = _explain(session, job, verdict, outcome, reason)
    now = read_clock(session)
    _close_job(
        session,
        job,
        verdict,
        reason=why,
        failure_code=failure_code or outcome,
        now=now,
        not_before=now + backoff_ms,
        running_ms=job.running_ms + max(0, now - attempt.started_at),
    )
    attempt.ended_at = now
    attempt.outcome = outcome
    attempt.charged = charge and not permanent
    attempt.progressed = progressed
    attempt.exit_code = exit_code
    attempt.signal = signal
    attempt.oom = oom
    attempt.error_tail = error_tail[-ERROR_TAIL_CHARS:] if error_tail else None
    session.flush()
    audit_store.record(
        session,
        actor or f"worker:{attempt.worker_id}",
        "attempt_ended",
        "job",
        job_id,
        {"outcome": outcome, "state": str(verdict.state), "reason": why},
        fence=fence,
    )
    return verdict.state


def _find_claimed(session: Session, attempt_uuid: str) -> Claim | None:
    job = session.scalars(
        select(Job)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence))
        .where(Attempt.uuid == attempt_uuid, Job.state == JobStatus.RUNNING)
    ).one_or_none()
    return _build_claim(job, attempt_uuid) if job is not None else None


def _take_best(
    session: Session,
    *,
    worker_id: int,
    kinds: list[str],
    queues: list[str],
    gpu_mem_mb: int,
    lease_ms: int,
) -> Job | None:
    # PostgreSQL may run a plain subquery again and take several rows: MATERIALIZED,
    # `=` instead of IN, and the state named twice keep it at one.
    best = (
        select(Job.id)
        .where(
            # In so many words, not as a parameter: only then does a plan made before
            # its values are known use the index over queued jobs.
            Job.state == literal_column(f"'{JobStatus.QUEUED}'"),
            # "Finish now" outlives an attempt that died of something else.
            Job.desired.in_([Desired.RUN, Desired.FINISH]),
            Job.kind.in_(kinds),
            Job.queue.in_(queues),
            Job.gpu_mem_mb <= gpu_mem_mb,
            Job.not_before <= now_ms(),
        )
        .order_by(Job.priority.desc(), Job.fair_rank, Job.id)
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
            eta_seconds=None,
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    ).one_or_none()


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


def _has_progressed(job: Job) -> bool:
    return (
        job.last_step > job.attempt_start_step
        or job.durable > job.attempt_start_durable
    )


def _explain(
    session: Session, job: Job, verdict: Verdict, outcome: str, reason: str | None
) -> str | None:
    """Returns the sentence for the user: what happened, and why that was the end."""
    parts = [reason, verdict.why_failed]
    if verdict.why_failed and outcome in LOSSES:
        hosts = session.scalars(
            select(Attempt.host)
            .where(Attempt.job_id == job.id)
            .order_by(Attempt.fence.desc())
            .limit(verdict.lost)
        )
        parts.append(f"They ran on: {', '.join(sorted(set(hosts)))}.")
    return " ".join(part for part in parts if part) or None


def _close_job(session: Session, job: Job, verdict: Verdict, **facts: Any) -> None:
    now, not_before = facts.pop("now"), facts.pop("not_before")
    terminal = is_terminal(verdict.state)
    session.execute(
        update(Job)
        .where(
            Job.id == job.id,
            Job.fence == job.fence,
            Job.state == JobStatus.RUNNING,
            Job.desired == job.desired,
        )
        .values(
            state=verdict.state,
            noprog=verdict.noprog,
            lost=verdict.lost,
            failures=verdict.failures,
            lease_until=None,
            worker_id=None,
            not_before=0 if terminal else not_before,
            ended_at=now if terminal else None,
            eta_seconds=None,
            updated_at=now,
            **facts,
        )
        .execution_options(synchronize_session=False)
    )


def _find_ended(session: Session, job_id: int, fence: int, outcome: str) -> str:
    """Returns the job's state when this very ending is on record already."""
    row = session.execute(
        select(Job.state, Attempt.outcome)
        .join(Attempt, Attempt.job_id == Job.id)
        .where(Job.id == job_id, Attempt.fence == fence)
    ).one_or_none()
    if row is None or row.outcome != outcome:
        raise LostLease(f"job {job_id}, attempt {fence}")
    return row.state
