"""How much one user may have running and waiting, so that nobody fills the queue.

The installation's settings say it for everybody; an admin may say otherwise for one
user. Trainings alone are counted: they hold the machines for long.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared import audit_store
from shared.errors import ConflictError, NotFoundError, UserError
from shared.job_status import JobKind, JobStatus
from shared.sql_dialect import wait_for_claims
from shared.tables import Job, User

MOST = 1_000_000


@dataclass(frozen=True)
class UserLimits:
    """What one user may have at once; None: as much as there is.

    Args:
        running: Trainings that run, 1 or more.
        waiting: Trainings that are queued or paused, 1 or more.
    """

    running: int | None = None
    waiting: int | None = None

    def __post_init__(self) -> None:
        for name in ("running", "waiting"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MOST:
                raise UserError(
                    f"`{name}` must be 1 to {MOST}, or left out for the "
                    f"installation's own. Received: {name}={value}.",
                    field=name,
                )


def find_limits(session: Session, user_id: int, usual: UserLimits) -> UserLimits:
    """Returns what a user may have: their own limits, else the usual ones."""
    own = session.execute(
        select(User.max_running, User.max_waiting).where(User.id == user_id)
    ).one_or_none()
    if own is None:
        raise NotFoundError(f"There is no user {user_id}.")
    return UserLimits(
        usual.running if own.max_running is None else own.max_running,
        usual.waiting if own.max_waiting is None else own.max_waiting,
    )


def set_limits(
    session: Session, user_id: int, limits: UserLimits, *, actor: str
) -> None:
    """Gives a user limits of their own; None takes the installation's again.

    Raises:
        NotFoundError: When there is no such user.
    """
    found = session.execute(
        update(User)
        .where(User.id == user_id)
        .values(max_running=limits.running, max_waiting=limits.waiting)
        .returning(User.id)
    ).one_or_none()
    if found is None:
        raise NotFoundError(f"There is no user {user_id}.")
    audit_store.record(
        session, actor, "limits_set", "user", user_id,
        {"running": limits.running, "waiting": limits.waiting},
    )  # fmt: skip


def is_any_limited(session: Session, usual_running: int | None) -> bool:
    """Whether anybody's running trainings are limited."""
    if usual_running is not None:
        return True
    limited = select(User.id).where(User.max_running.is_not(None)).limit(1)
    return session.scalar(limited) is not None


def list_full(session: Session, usual_running: int | None) -> list[int]:
    """Returns the users who have as many trainings running as they may."""
    if not is_any_limited(session, usual_running):
        return []
    most = func.coalesce(User.max_running, usual_running)
    return list(
        session.scalars(
            select(Job.owner_id)
            .join(User, User.id == Job.owner_id)
            .where(Job.state == JobStatus.RUNNING, Job.kind == JobKind.TRAIN)
            .group_by(Job.owner_id, User.max_running)
            .having(func.count() >= most)
        )
    )


def list_room(
    session: Session, user_ids: Collection[int], usual_running: int | None
) -> dict[int, int]:
    """Returns how many more trainings those of these users may start who are limited.

    Never less than 0, also where a limit was lowered since.
    """
    if not is_any_limited(session, usual_running):
        return {}
    most = func.coalesce(User.max_running, usual_running)
    running = (
        select(func.count())
        .select_from(Job)
        .where(
            Job.owner_id == User.id,
            Job.state == JobStatus.RUNNING,
            Job.kind == JobKind.TRAIN,
        )
        .scalar_subquery()
    )
    rows = session.execute(select(User.id, most, running).where(User.id.in_(user_ids)))
    return {
        user_id: max(0, limit - count)
        for user_id, limit, count in rows
        if limit is not None
    }


def list_full_alone(session: Session, usual_running: int | None) -> list[int]:
    """As `list_full`; it stays true until the end of this transaction, a claim's.

    Two claims at once would each see room for one more. So that where anybody is
    limited, claims come one after the other.
    """
    limited = is_any_limited(session, usual_running)
    wait_for_claims(session, alone=limited)
    return list_full(session, usual_running) if limited else []


def require_room(session: Session, user_id: int, usual: UserLimits, new: int) -> None:
    """Refuses what has just been put into the queue when it is more than may wait.

    Paused jobs count: else pausing some would make room for more.

    Args:
        session: The writing session in which that was done.
        user_id: Whose jobs they are.
        usual: The installation's limits.
        new: How many trainings that were.

    Raises:
        ConflictError: Naming the numbers; nothing of it is kept.
    """
    # Of two submissions at once the second waits here, and counts the first one's. Not
    # FOR UPDATE: both hold the row already, since their jobs refer to it.
    own = select(User.id).where(User.id == user_id)
    session.execute(own.with_for_update(key_share=True))
    most = find_limits(session, user_id, usual).waiting
    if most is None or not new:
        return
    count = session.scalar(
        select(func.count())
        .select_from(Job)
        .where(
            Job.owner_id == user_id,
            Job.kind == JobKind.TRAIN,
            Job.state.in_([JobStatus.QUEUED, JobStatus.PAUSED]),
        )
    )
    if (count or 0) > most:
        raise ConflictError(
            f"At most {most} trainings of this owner may wait, queued or paused. "
            f"{(count or 0) - new} do, and {new} more are too many: wait until some "
            "have started, cancel some, or ask an admin for more."
        )
