"""What a running attempt leaves on record: checkpoints, progress, curves, notes.

Every write names the job and the fence of its attempt, and raises `LostLease` when
another attempt owns the job or it has ended: a stale attempt writes nothing. Callers
use these through `attempt_store`. All of it is safe to run again.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session

from shared.database import now_ms
from shared.errors import LostLease
from shared.job_status import JobStatus
from shared.retry_policy import DIVERGED
from shared.sql_dialect import insert
from shared.tables import Attempt, Audit, Checkpoint, Job, Metric, Note

FINAL = "final"
# Where smaller passes need less memory.
_PHASES_WITH_PASSES = ("fine_tune", "evaluate")
METRIC_ROWS = 500  # rows of one INSERT: SQLite takes 32,766 values at most


@dataclass(frozen=True)
class MetricPoint:
    """One value of one series; `seq` counts up for the life of the attempt."""

    name: str
    seq: int
    step: int
    value: float | None
    epoch: int | None = None
    phase: str | None = None


def points_of(event: dict[str, Any]) -> list[MetricPoint]:
    """Turns one `metrics` event of a child process into points."""
    return [
        MetricPoint(
            name=name,
            seq=int(event["seq"]),
            step=int(event["step"]),
            value=value,
            epoch=event.get("epoch"),
            phase=event.get("phase"),
        )
        for name, value in event["values"].items()
    ]


def register_checkpoint(
    session: Session,
    job_id: int,
    fence: int,
    *,
    step: int,
    kind: str,
    rel_path: str,
    manifest_sha: str,
    size_bytes: int,
    metric: float | None = None,
) -> None:
    """Makes a durable folder the job's newest checkpoint, and clears the budgets.

    Args:
        session: The writing session.
        job_id: The job.
        fence: The attempt that wrote the folder.
        step: Global step that it resumes after.
        kind: `periodic`, `emergency` or `final`.
        rel_path: The folder below shared storage.
        manifest_sha: SHA-256 of its manifest.
        size_bytes: Of all its files.
        metric: Of the monitor, higher or lower as the spec says.

    Raises:
        LostLease: When the attempt no longer owns the job.
    """
    went_on = Job.last_step < step
    _update_own(
        session,
        job_id,
        fence,
        noprog=case((went_on, 0), else_=Job.noprog),
        lost=case((went_on, 0), else_=Job.lost),
        last_step=case((went_on, step), else_=Job.last_step),
        hb=Job.hb + 1,
    )
    lineage = select(Job.lineage).where(Job.id == job_id).scalar_subquery()
    state = {
        "rel_path": rel_path,
        "manifest_sha": manifest_sha,
        "size_bytes": size_bytes,
        "metric": _finite(metric),
        "created_at": now_ms(),
    }
    key = {"step": step, "fence": fence, "kind": kind}
    session.execute(
        insert(session, Checkpoint)
        .values(job_id=job_id, lineage=lineage, status="ok", **key, **state)
        # One step is saved twice where a phase ends after it: the later state counts.
        .on_conflict_do_update(
            index_elements=["job_id", "lineage", "step", "fence", "kind"],
            set_=state,
            where=Checkpoint.status == "ok",
        )
    )


def mark_checkpoint_corrupt(
    session: Session, job_id: int, fence: int, rel_path: str
) -> None:
    """Takes a checkpoint that does not verify out of use; its files stay for a look.

    Raises:
        LostLease: When the attempt no longer owns the job.
    """
    _hold_own(session, job_id, fence)
    session.execute(
        update(Checkpoint)
        .where(
            Checkpoint.job_id == job_id,
            Checkpoint.rel_path == rel_path,
            Checkpoint.status == "ok",
        )
        .values(status="corrupt")
    )


def list_resume_checkpoints(
    session: Session, job_id: int, lineage: int
) -> list[Checkpoint]:
    """Returns the checkpoints that training can go on from, newest first."""
    return list(
        session.scalars(
            _usable(job_id, lineage)
            .where(Checkpoint.kind != FINAL)
            .order_by(Checkpoint.step.desc(), Checkpoint.fence.desc())
        )
    )


def count_memory_kills(session: Session, job_id: int) -> int:
    """Counts the attempts killed for memory while images went through the network.

    Others are no reason to send fewer through at once.
    """
    counted = select(func.count()).where(
        Attempt.job_id == job_id, Attempt.oom, Attempt.phase.in_(_PHASES_WITH_PASSES)
    )
    return session.scalar(counted) or 0


def count_divergences(session: Session, job_id: int) -> dict[str, int]:
    """Counts, by phase, the attempts whose loss was no longer a number.

    Since a user last asked for another try, which begins all counts anew.
    """
    retried_at = session.scalar(
        select(func.max(Audit.at)).where(
            Audit.object_type == "job",
            Audit.object_id == str(job_id),
            Audit.event == "job_retried",
        )
    )
    rows = session.execute(
        select(Attempt.phase, func.count())
        .where(
            Attempt.job_id == job_id,
            Attempt.outcome == DIVERGED,
            Attempt.ended_at > (retried_at or 0),
        )
        .group_by(Attempt.phase)
    )
    return {phase: count for phase, count in rows if phase}


def find_final_checkpoint(
    session: Session, job_id: int, lineage: int
) -> Checkpoint | None:
    """Returns the finished result that only waits for publication, if there is one."""
    return session.scalars(
        _usable(job_id, lineage)
        .where(Checkpoint.kind == FINAL)
        .order_by(Checkpoint.step.desc(), Checkpoint.fence.desc())
        .limit(1)
    ).first()


def record_progress(
    session: Session,
    job_id: int,
    fence: int,
    *,
    phase: str | None,
    done: int,
    total: int,
    unit: str | None,
    eta_seconds: float | None = None,
) -> None:
    """Shows where the attempt is; never decides anything.

    Raises:
        LostLease: When the attempt no longer owns the job.
    """
    _update_own(
        session,
        job_id,
        fence,
        phase=phase,
        progress_done=done,
        progress_total=total,
        progress_unit=unit,
        eta_seconds=_finite(eta_seconds),
    )


def record_durable(session: Session, job_id: int, fence: int, count: int) -> None:
    """Counts finished pack and feature shards: progress without a checkpoint.

    Raises:
        LostLease: When the attempt no longer owns the job.
    """
    more = Job.durable < count
    _update_own(
        session,
        job_id,
        fence,
        noprog=case((more, 0), else_=Job.noprog),
        lost=case((more, 0), else_=Job.lost),
        durable=case((more, count), else_=Job.durable),
    )


def record_resumed(session: Session, job_id: int, fence: int, step: int) -> None:
    """Notes the step that the attempt really goes on from.

    It is lower than the job's last step when newer checkpoints were corrupt: then
    reaching that step again counts as progress again.

    Raises:
        LostLease: When the attempt no longer owns the job.
    """
    lower = Job.last_step > step
    _update_own(
        session,
        job_id,
        fence,
        last_step=case((lower, step), else_=Job.last_step),
        attempt_start_step=case((lower, step), else_=Job.attempt_start_step),
    )
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == job_id, Attempt.fence == fence)
        .values(start_step=step)
    )


def add_metrics(
    session: Session, job_id: int, fence: int, points: Iterable[MetricPoint]
) -> None:
    """Adds points of the learning curves; a point sent twice is kept once.

    Values that are not finite numbers are left out: no chart can show them.

    Raises:
        LostLease: When the attempt no longer owns the job.
    """
    _hold_own(session, job_id, fence)
    rows = [
        {
            "job_id": job_id,
            "fence": fence,
            "name": point.name,
            "seq": point.seq,
            "step": point.step,
            "epoch": point.epoch,
            "phase": point.phase,
            "value": point.value,
        }
        for point in points
        if _finite(point.value) is not None
    ]
    for start in range(0, len(rows), METRIC_ROWS):
        session.execute(
            insert(session, Metric)
            .values(rows[start : start + METRIC_ROWS])
            .on_conflict_do_nothing()
        )


def add_note(
    session: Session, job_id: int, fence: int, level: str, message: str
) -> None:
    """Adds a sentence to the job's page, once per attempt.

    Args:
        session: The writing session.
        job_id: The job.
        fence: The attempt that has something to say.
        level: `info`, `warning` or `error`.
        message: For the user.

    Raises:
        LostLease: When the attempt no longer owns the job.
    """
    _hold_own(session, job_id, fence)
    write_note(session, job_id, fence, level, message)


def write_note(
    session: Session, job_id: int, fence: int, level: str, message: str
) -> None:
    """Adds a sentence to a job that the caller holds already."""
    same = (Note.job_id == job_id, Note.fence == fence, Note.message == message)
    if session.scalar(select(func.count()).select_from(Note).where(*same)):
        return
    session.add(
        Note(
            job_id=job_id,
            fence=fence,
            level=level,
            message=message,
            created_at=now_ms(),
        )
    )
    session.flush()


def _usable(job_id: int, lineage: int) -> Any:
    return select(Checkpoint).where(
        Checkpoint.job_id == job_id,
        Checkpoint.lineage == lineage,
        Checkpoint.status == "ok",
    )


def _update_own(session: Session, job_id: int, fence: int, **values: Any) -> None:
    changed = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state == JobStatus.RUNNING)
        .values(updated_at=now_ms(), **values)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if changed is None:
        raise LostLease(f"job {job_id}, attempt {fence}")


def _hold_own(session: Session, job_id: int, fence: int) -> None:
    """Locks the row until the transaction ends, so that nobody takes the job over."""
    held = session.execute(
        select(Job.id)
        .where(Job.id == job_id, Job.fence == fence, Job.state == JobStatus.RUNNING)
        .with_for_update(read=True)
    ).one_or_none()
    if held is None:
        raise LostLease(f"job {job_id}, attempt {fence}")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
