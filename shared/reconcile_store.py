"""What the reconciler asks of the records, and the few things it writes itself.

Every write is conditional, so any number of reconcilers may run at once.
"""

from dataclasses import dataclass

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from shared.attempt_progress_store import FINAL
from shared.database import now_ms, read_clock
from shared.job_status import Desired, JobKind, JobStatus
from shared.tables import (
    Attempt,
    Checkpoint,
    DatasetVersion,
    Job,
    ModelVersion,
    Worker,
)

KEPT_CHECKPOINTS = 3
QUARANTINE_AFTER = 3  # different jobs in a row without progress


@dataclass(frozen=True)
class RunningJob:
    """What the reaper watches of one running job."""

    job_id: int
    fence: int
    hb: int
    expired: bool
    running_ms: int


def list_running(session: Session) -> list[RunningJob]:
    """Returns every running job as the database's clock sees it now."""
    now = read_clock(session)
    rows = session.execute(
        select(
            Job.id,
            Job.fence,
            Job.hb,
            Job.lease_until,
            Job.running_ms,
            Attempt.started_at,
        )
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence))
        .where(Job.state == JobStatus.RUNNING)
    )
    return [
        RunningJob(
            job_id=row.id,
            fence=row.fence,
            hb=row.hb,
            expired=(row.lease_until or 0) < now,
            running_ms=row.running_ms + max(0, now - row.started_at),
        )
        for row in rows
    ]


def count_claimable(session: Session, kinds: list[str]) -> int:
    """Returns how many jobs of `kinds` wait and are due."""
    return session.execute(
        select(func.count())
        .select_from(Job)
        .where(
            Job.state == JobStatus.QUEUED,
            Job.desired == Desired.RUN,
            Job.kind.in_(kinds),
            Job.not_before <= now_ms(),
        )
    ).scalar_one()


def list_idle_workers(session: Session, seen_ms: int) -> list[Worker]:
    """Returns active workers without a job that were seen in the last `seen_ms`."""
    return list(
        session.scalars(
            select(Worker).where(
                Worker.status == "active",
                Worker.job_id.is_(None),
                Worker.seen_at >= now_ms() - seen_ms,
            )
        )
    )


def find_failing_workers(session: Session) -> list[tuple[int, str]]:
    """Returns (id, name) of active workers whose last jobs all ended for nothing.

    That is: the last attempts, of as many different jobs as `QUARANTINE_AFTER`, were
    charged and made no progress. Jobs that fail by their own error are not charged,
    so a user's bad spec never takes a slot out of service.
    """
    found = []
    active = select(Worker.id, Worker.name).where(Worker.status == "active")
    for worker_id, name in session.execute(active).all():
        last = session.execute(
            select(Attempt.job_id, Attempt.charged, Attempt.progressed)
            .where(Attempt.worker_id == worker_id, Attempt.ended_at.is_not(None))
            .order_by(Attempt.ended_at.desc())
            .limit(QUARANTINE_AFTER)
        ).all()
        jobs = {row.job_id for row in last}
        if len(jobs) == QUARANTINE_AFTER and all(
            row.charged and not row.progressed for row in last
        ):
            found.append((worker_id, name))
    return found


def take_superfluous_checkpoints(session: Session, limit: int) -> list[str]:
    """Marks checkpoints that no resume will ask for; returns all that are marked.

    Of each job the newest three stay, the best by its monitor, and finished results.

    Returns:
        Folders below shared storage, to be removed before `forget_checkpoints`.
    """
    jobs = session.scalars(
        select(Checkpoint.job_id)
        .where(Checkpoint.status == "ok", Checkpoint.kind != FINAL)
        .group_by(Checkpoint.job_id)
        .having(func.count() > KEPT_CHECKPOINTS)
        .limit(limit)
    ).all()
    for job_id in jobs:
        _mark_old(session, job_id)
    return list(
        session.scalars(
            select(Checkpoint.rel_path)
            .where(Checkpoint.status == "deleting")
            .limit(10 * limit)
        )
    )


def forget_checkpoints(session: Session, rel_paths: list[str]) -> None:
    """Deletes the rows of checkpoints whose files are gone."""
    session.execute(
        delete(Checkpoint).where(
            Checkpoint.rel_path.in_(rel_paths), Checkpoint.status == "deleting"
        )
    )


def known_attempts(session: Session, job_id: int) -> set[str] | None:
    """Returns the checkpoint folders that rows name, or None for an unknown job."""
    if session.get(Job, job_id) is None:
        return None
    return set(
        session.scalars(select(Checkpoint.rel_path).where(Checkpoint.job_id == job_id))
    )


def current_fence(session: Session, job_id: int) -> int | None:
    """Returns the fence of the attempt that runs now, or None when none does."""
    return session.scalar(
        select(Job.fence).where(Job.id == job_id, Job.state == JobStatus.RUNNING)
    )


def named_artifacts(session: Session) -> set[str]:
    """Returns the digests of every artifact that a published version names."""
    named: set[str] = set()
    for sha, files in session.execute(
        select(ModelVersion.artifact_sha, ModelVersion.files).where(
            ModelVersion.deleted_at.is_(None)
        )
    ):
        named.add(sha)
        named.update(file["sha256"] for file in (files or {}).values())
    return named


def named_uploads(session: Session) -> set[str]:
    """Returns the upload ids that ingest jobs may still read."""
    specs = session.scalars(
        select(Job.spec).where(
            Job.kind == JobKind.INGEST, Job.state != JobStatus.SUCCEEDED
        )
    )
    named = set()
    for spec in specs:
        for source in spec.get("sources", []):
            parts = str(source.get("path", "")).split("/")
            if len(parts) > 1 and parts[0] == "uploads":
                named.add(parts[1])
    return named


def known_fingerprints(session: Session) -> set[str]:
    """Returns the fingerprints of all dataset versions."""
    return set(session.scalars(select(DatasetVersion.fingerprint)))


def find_violations(session: Session) -> list[str]:
    """Returns what contradicts the protocol's invariants: always nothing.

    A finding is reported, never repaired in silence.
    """
    found = []
    for name, statement in _VIOLATIONS.items():
        count = session.execute(text(statement)).scalar_one()
        if count:
            found.append(f"{name}: {count}")
    return found


def _mark_old(session: Session, job_id: int) -> None:
    monitor = session.scalar(select(Job.spec).where(Job.id == job_id)) or {}
    rising = monitor.get("training", {}).get("monitor") == "val_accuracy"
    rows = session.scalars(
        select(Checkpoint)
        .where(
            Checkpoint.job_id == job_id,
            Checkpoint.status == "ok",
            Checkpoint.kind != FINAL,
        )
        .order_by(
            Checkpoint.lineage.desc(), Checkpoint.step.desc(), Checkpoint.fence.desc()
        )
    ).all()
    kept = list(rows[:KEPT_CHECKPOINTS])
    scored = [row for row in rows if row.metric is not None]
    if scored:
        pick = max if rising else min
        kept.append(pick(scored, key=lambda row: row.metric or 0.0))
    for row in rows:
        if row not in kept:
            session.execute(
                update(Checkpoint)
                .where(Checkpoint.rel_path == row.rel_path, Checkpoint.status == "ok")
                .values(status="deleting")
            )


_VIOLATIONS = {
    "two open attempts of one running job": """
        SELECT count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id
        WHERE a.fence > j.fence""",
    "a checkpoint from the future": """
        SELECT count(*) FROM checkpoints c JOIN jobs j ON j.id = c.job_id
        WHERE c.fence > j.fence""",
    "succeeded training jobs without a version": """
        SELECT count(*) FROM jobs j WHERE j.kind = 'train' AND j.state = 'succeeded'
        AND NOT EXISTS (SELECT 1 FROM model_versions v WHERE v.job_id = j.id)""",
    "versions of jobs that did not succeed": """
        SELECT count(*) FROM model_versions v JOIN jobs j ON j.id = v.job_id
        WHERE j.state <> 'succeeded'""",
    "gaps in version numbers": """
        SELECT count(*) FROM models m WHERE m.last_version <>
        (SELECT count(*) FROM model_versions v WHERE v.model_id = m.id)""",
}
