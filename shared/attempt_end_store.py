"""How an attempt ends, and what becomes of its job (the job protocol)."""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared import audit_store
from shared.database import read_clock
from shared.errors import LostLease
from shared.job_status import Desired, JobStatus, is_terminal
from shared.notifications import event_store
from shared.notifications.event_store import EventKind
from shared.retry_policy import (
    FILES,
    LOSSES,
    LOST,
    MEMORY_KILL,
    STALLED,
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
from shared.tables import Attempt, Job

ERROR_TAIL_CHARS = 64 * 1024


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
        error_tail: The last of its output; 64 KiB are kept.
        backoff_ms: Wait before the next attempt. Defaults to the policy's.
        limits: The budgets. Default to the settings'.
        actor: For the audit. Defaults to the attempt's worker.

    Returns:
        The job's new state, or its present one when this ending is on record already.

    Raises:
        LostLease: When the attempt no longer owns the job.
    """
    job = _lock_running(session, job_id, fence)
    if job is None:
        return _find_ended(session, job_id, fence, outcome)
    attempt = session.get_one(Attempt, (job_id, fence), populate_existing=True)
    limits = limits or Limits.from_settings(get_settings())
    ending = Ending(outcome, charge, permanent, user_failure)
    progressed = _has_progressed(job)
    files = _count_file_failures(session, job) if outcome == FILES else 0
    spent = Counters(
        job.noprog, job.lost, job.failures, job.attempts, progressed, files
    )
    gives_way = job.gives_way_to is not None
    verdict = decide_end(job.desired, ending, spent, limits, gives_way=gives_way)
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
    attempt.ended_at, attempt.outcome = now, outcome
    attempt.charged, attempt.progressed = charge and not permanent, progressed
    attempt.exit_code, attempt.signal = exit_code, signal
    attempt.oom, attempt.phase = outcome == MEMORY_KILL, job.phase
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
    _announce(session, job_id, verdict.state, outcome)
    return verdict.state


def end_left_behind(
    session: Session, attempt_uuid: str, *, lease_ms: int
) -> str | None:
    """Ends an attempt whose worker died, unless it has ended.

    Only for whoever knows that nothing of the attempt is alive any more, because it
    holds the lock of the attempt's slot.

    Args:
        session: The writing session.
        attempt_uuid: Of the attempt, if there is one.
        lease_ms: Wait before the next attempt, when this one got nowhere: as long as
            for a worker that does not come back. One that dies of every job would
            else spend all tries of a job in a moment, with others standing by.

    Returns:
        The job's new state, or None when there was nothing to end.
    """
    attempt = session.scalars(
        select(Attempt).where(Attempt.uuid == attempt_uuid, Attempt.ended_at.is_(None))
    ).one_or_none()
    if attempt is None:
        return None
    job = session.get_one(Job, attempt.job_id, populate_existing=True)
    try:
        return end(
            session,
            attempt.job_id,
            attempt.fence,
            outcome=LOST,
            charge=False,
            reason="The worker process died; the job goes on from its last checkpoint.",
            backoff_ms=0 if _has_progressed(job) else lease_ms,
        )
    except LostLease:  # somebody else has just ended it
        return None


def _lock_running(session: Session, job_id: int, fence: int) -> Job | None:
    """Returns the job as it is now, which nobody else changes until the commit."""
    return session.scalars(
        select(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state == JobStatus.RUNNING)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def _has_progressed(job: Job) -> bool:
    return (
        job.last_step > job.attempt_start_step
        or job.durable > job.attempt_start_durable
    )


def _count_file_failures(session: Session, job: Job) -> int:
    """Counts the attempts that a file ended since one of them got anywhere.

    Of rows, since the job has no column for them. Those before a user asked for
    another try are not among its `attempts`.
    """
    went_on = session.scalar(
        select(func.max(Attempt.fence)).where(
            Attempt.job_id == job.id, Attempt.progressed.is_(True)
        )
    )
    counted = select(func.count()).where(
        Attempt.job_id == job.id,
        Attempt.outcome == FILES,
        Attempt.fence > max(went_on or 0, job.fence - job.attempts),
    )
    return session.scalar(counted) or 0


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
    if job.gives_way_to is not None and job.desired == Desired.PAUSE:
        facts |= {"desired": Desired.RUN, "gives_way_to": None}
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


def _announce(session: Session, job_id: int, state: str, outcome: str) -> None:
    """Lets those hear of it who want to: of a failure, and of what made no progress."""
    if state == JobStatus.FAILED:
        event_store.announce(session, job_id, EventKind.FAILED)
    elif state == JobStatus.QUEUED and outcome == STALLED:
        event_store.announce(session, job_id, EventKind.STALLED)


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
