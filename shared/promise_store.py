"""What was expected of jobs while they waited, and what became of it."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, case, delete, exists, select
from sqlalchemy.orm import Session

from shared.database import now_ms
from shared.expected_starts import Expected
from shared.job_status import JobStatus
from shared.sql_dialect import in_parts, insert
from shared.tables import Attempt, Job, PausedQueue, Promise


@dataclass(frozen=True)
class Kept:
    """What was promised of a job, and when it came; times in milliseconds.

    Args:
        job_id: The job.
        made_at: When it was promised.
        promised_start: When it was to start.
        started_at: When it did.
        promised_end: When it was to end; None when nobody could tell.
        ended_at: When it had succeeded, in that attempt; None when it has not.
    """

    job_id: int
    made_at: int
    promised_start: int
    started_at: int
    promised_end: int | None
    ended_at: int | None


def list_unpromised(session: Session) -> list[int]:
    """Returns the jobs that wait in open queues without a promise."""
    promised = exists().where(Promise.job_id == Job.id, Promise.fence == Job.fence)
    return list(
        session.scalars(
            select(Job.id)
            .where(
                Job.state == JobStatus.QUEUED,
                Job.queue.not_in(select(PausedQueue.name)),
                ~promised,
            )
            .order_by(Job.id)
        )
    )


def forget(session: Session, waiting: ColumnElement[bool]) -> None:
    """Drops what was promised of jobs that have not started since.

    Somebody has set them aside or put them back: they wait anew.

    Args:
        session: The writing session.
        waiting: Which jobs.
    """
    own = select(Job.fence).where(Job.id == Promise.job_id).scalar_subquery()
    session.execute(
        delete(Promise)
        .where(Promise.job_id.in_(select(Job.id).where(waiting)), Promise.fence == own)
        .execution_options(synchronize_session=False)
    )


def keep(session: Session, expected: dict[int, Expected]) -> int:
    """Keeps what is expected of queued jobs that nothing was promised of.

    The first word counts: what is expected later, when others were moved ahead, is
    shown and not kept.

    Returns:
        How many promises were made.
    """
    made = 0
    for some in in_parts(sorted(expected)):
        rows = session.execute(
            select(Job.id, Job.fence).where(
                Job.id.in_(some), Job.state == JobStatus.QUEUED
            )
        )
        values = [
            {
                "job_id": row.id,
                "fence": row.fence,
                "made_at": now_ms(),
                "starts_at": expected[row.id].starts_at,
                "ends_at": expected[row.id].ends_at,
            }
            for row in rows
        ]
        if values:
            kept = session.execute(
                insert(session, Promise)
                .values(values)
                .on_conflict_do_nothing(index_elements=["job_id", "fence"])
                .returning(Promise.job_id)
            )
            made += len(kept.all())
    return made


def list_kept(session: Session, *, limit: int = 500) -> list[Kept]:
    """Returns promises whose jobs have started since, the newest first."""
    ended = and_(Job.state == JobStatus.SUCCEEDED, Job.fence == Attempt.fence)
    rows = session.execute(
        select(
            Promise.job_id,
            Promise.made_at,
            Promise.starts_at,
            Attempt.started_at,
            Promise.ends_at,
            case((ended, Job.ended_at)),
        )
        .join(
            Attempt,
            (Attempt.job_id == Promise.job_id) & (Attempt.fence == Promise.fence + 1),
        )
        .join(Job, Job.id == Promise.job_id)
        .order_by(Attempt.started_at.desc())
        .limit(limit)
    )
    return [Kept(*row) for row in rows]
