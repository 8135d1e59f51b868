"""The queue: what waits, in the order in which it starts, and moving it."""

import time
from dataclasses import dataclass
from typing import get_args

from sqlalchemy.orm import Session

from shared import job_order_store, job_read_store, job_store
from shared.errors import UserError
from shared.expected_starts import Expected
from shared.job_order_store import Step, Target
from shared.job_submit_store import FIRST_PRIORITY
from shared.tables import Job
from web.auth.datastore import Account
from web.installation import Installation
from web.jobs.view import PAGE_SIZE, JobRow, make_row
from web.paging import Pager
from web.permissions import may_change, require_change


@dataclass(frozen=True)
class Wish:
    """Where a waiting job is to go: exactly one of these.

    Args:
        to: `first`, `up`, `down` or `last`.
        before: Number of the job that it shall stand before.
        after: Number of the job that it shall stand after.
    """

    to: Step | None = None
    before: int | None = None
    after: int | None = None

    def __post_init__(self) -> None:
        given = [w for w in (self.to, self.before, self.after) if w is not None]
        if len(given) != 1:
            raise UserError(
                "Say where the job shall go: one of `to`, `before` and `after`.",
                field="to",
            )
        if self.to is not None and self.to not in get_args(Step):
            raise UserError(
                f"`to` must be one of {', '.join(get_args(Step))}. "
                f"Received: to={self.to!r}.",
                field="to",
            )


@dataclass(frozen=True)
class WaitingRow:
    """A waiting job in its place, from 1."""

    position: int
    job: JobRow
    priority: int
    queue: str
    may_move: bool
    starts_in: float | None  # seconds; None when nobody can tell
    ends_in: float | None

    @property
    def goes_first(self) -> bool:
        """Whether no user's priority is above it."""
        return self.priority >= FIRST_PRIORITY


def move(here: Installation, account: Account, job_id: int, wish: Wish) -> None:
    """Moves a waiting job.

    Raises:
        ConflictError: When it, or its new neighbour, waits no longer.
        NotAllowedError: When the job is somebody else's.
        NotFoundError: When there is no such job.
        UserError: When the two cannot be neighbours.
    """
    # Found once: run again because an answer got lost, a step would lead further.
    found: list[Target | None] = []

    def write(session: Session) -> None:
        require_change(account, job_read_store.get_job(session, job_id), "job")
        if not found:
            found.append(_find_target(session, job_id, wish))
        if found[0] is not None:
            job_order_store.move(session, job_id, found[0], actor=account.actor)

    here.database.tx(write)


def _find_target(session: Session, job_id: int, wish: Wish) -> Target | None:
    if wish.before is not None:
        return Target(wish.before, "before")
    if wish.after is not None:
        return Target(wish.after, "after")
    assert wish.to is not None  # one of the three is there
    return job_order_store.find_neighbour(session, job_id, wish.to)


def set_priority(
    here: Installation, account: Account, job_id: int, priority: int
) -> None:
    """Gives a queued or paused job another priority; higher starts earlier.

    Raises:
        ConflictError: When the job is neither queued nor paused.
        NotAllowedError: When the job is somebody else's.
        NotFoundError: When there is no such job.
        UserError: When `priority` is not from -100 to 100.
    """

    def write(session: Session) -> None:
        require_change(account, job_read_store.get_job(session, job_id), "job")
        job_store.set_priority(session, job_id, priority, account.actor)

    here.database.tx(write)


def list_waiting(
    here: Installation, account: Account, kind: str, page: int
) -> tuple[list[WaitingRow], Pager]:
    """Returns one page of what waits, the next one to start first."""
    expected = here.outlook.look()
    with here.database.reading() as session:
        found = job_order_store.list_waiting(
            session, kind, page=page, page_size=PAGE_SIZE
        )
        pager = Pager(found.page, PAGE_SIZE, found.total, "jobs.queue")
        rows = [
            _make_row(pager.first + number, job, account, expected.get(job.id))
            for number, job in enumerate(found.items)
        ]
    return rows, pager


def tell_wait(expected: Expected | None) -> tuple[float | None, float | None]:
    """Returns the seconds until a job is expected to start, and to end."""
    if expected is None:
        return None, None
    now = time.time() * 1000
    ends_at = expected.ends_at
    starts_in = max(0.0, (expected.starts_at - now) / 1000)
    return starts_in, None if ends_at is None else max(0.0, (ends_at - now) / 1000)


def _make_row(
    position: int, job: Job, account: Account, expected: Expected | None
) -> WaitingRow:
    starts_in, ends_in = tell_wait(expected)
    return WaitingRow(
        position=position,
        job=make_row(job),
        priority=job.priority,
        queue=job.queue,
        may_move=may_change(account, job),
        starts_in=starts_in,
        ends_in=ends_in,
    )
