"""What the outlook of the queue reads: who waits, who works, what took how long."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from math import inf
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session, aliased

from shared import user_limit_store, worker_store
from shared.database import read_clock
from shared.expected_starts import Allowance, Taker, Waiting
from shared.job_duration import Durations, Finished, Work, measure_work
from shared.job_order_store import CLAIM_ORDER
from shared.job_status import Desired, JobKind, JobStatus
from shared.sql_dialect import in_parts
from shared.tables import Attempt, DatasetVersion, Job, PausedQueue, User, Worker

LOOKED_BACK = 300  # finished trainings that durations are told from
OTHERS_LOOKED_BACK = 30  # finished jobs of other kinds


def list_waiting(session: Session, limited: Collection[int] = ()) -> list[Waiting]:
    """Returns every queued job of an open queue in the order of its claim.

    Args:
        session: Any session.
        limited: Users whose running trainings are limited.
    """
    rows = session.execute(
        select(
            Job.id,
            Job.kind,
            Job.queue,
            Job.gpu_mem_mb,
            Job.not_before,
            case((Job.last_step > 0, Job.running_ms / 1000.0), else_=0.0),
            Job.owner_id,
        )
        .where(
            Job.state == JobStatus.QUEUED,
            Job.desired.in_([Desired.RUN, Desired.FINISH]),
            Job.queue.not_in(select(PausedQueue.name)),
        )
        .order_by(*CLAIM_ORDER)
    )
    return [_make_waiting(row, limited) for row in rows]


def list_allowances(
    session: Session, usual_running: int | None, durations: Durations
) -> dict[int, Allowance]:
    """Returns what users may have running whose trainings are limited."""
    if not user_limit_store.is_any_limited(session, usual_running):
        return {}
    now = read_clock(session)
    limits = session.execute(
        select(User.id, func.coalesce(User.max_running, usual_running).label("most"))
    )
    found = {row.id: Allowance(row.most, []) for row in limits if row.most is not None}
    for row in session.execute(_running().where(Job.kind == JobKind.TRAIN)):
        if row.owner_id in found:
            left = _tell_left(row, durations, now)
            ends_at = inf if left is None else now + 1000 * left
            found[row.owner_id].take(ends_at)
    return found


def read_work(session: Session, job_ids: Iterable[int]) -> dict[int, Work | None]:
    """Returns the work of each job; None where nothing can be told of it."""
    work = {}
    for some in in_parts(list(job_ids)):
        for row in session.execute(_with_work().where(Job.id.in_(some))):
            work[row.id] = measure_work(row.kind, row.spec, row.images)
    return work


def list_finished(session: Session) -> list[Finished]:
    """Returns jobs that succeeded lately, the newest first."""
    return [
        *_list_finished(session, Job.kind == JobKind.TRAIN, LOOKED_BACK),
        *_list_finished(session, Job.kind != JobKind.TRAIN, OTHERS_LOOKED_BACK),
    ]


def list_takers(session: Session, durations: Durations) -> list[Taker]:
    """Returns every worker that takes jobs, and when it is free again.

    Left out are those whose present job may take any time.
    """
    now = read_clock(session)
    running = {row.worker_id: row for row in session.execute(_running())}
    takers = []
    for worker in worker_store.list_workers(session):
        if worker.status != worker_store.ACTIVE or not worker_store.is_alive(
            worker, now
        ):
            continue
        left = (
            0.0
            if worker.id not in running
            else _tell_left(running[worker.id], durations, now)
        )
        if left is not None:
            takers.append(_make_taker(worker, now + round(1000 * left)))
    return takers


def _make_waiting(row: Any, limited: Collection[int]) -> Waiting:
    job = Waiting(*row[:-1])
    held_back = row.owner_id in limited and row.kind == JobKind.TRAIN
    return replace(job, owner_id=row.owner_id) if held_back else job


def _with_work() -> Any:
    return select(Job.id, Job.kind, Job.spec, DatasetVersion.images).outerjoin(
        DatasetVersion, DatasetVersion.id == Job.dataset_version_id
    )


def _list_finished(session: Session, which: Any, most: int) -> list[Finished]:
    first = aliased(Attempt)
    rows = session.execute(
        _with_work()
        .add_columns(Job.running_ms, Attempt.worker_id)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence))
        .join(
            first,
            (first.job_id == Job.id) & (first.fence == Job.fence - Job.attempts + 1),
        )
        # A job that a user has tried again counts from there: what it had done before
        # and went on from is not in its time.
        .where(Job.state == JobStatus.SUCCEEDED, first.start_step == 0, which)
        .order_by(Job.id.desc())
        .limit(most)
    )
    found = [(row, measure_work(row.kind, row.spec, row.images)) for row in rows]
    return [
        Finished(work, row.worker_id, row.running_ms / 1000)
        for row, work in found
        if work is not None and row.running_ms > 0
    ]


def _running() -> Any:
    return (
        _with_work()
        .add_columns(
            Job.owner_id,
            Job.worker_id,
            Job.desired,
            Job.running_ms,
            Job.eta_seconds,
            Attempt.started_at,
        )
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence))
        .where(Job.state == JobStatus.RUNNING)
    )


def _tell_left(row: Any, durations: Durations, now: int) -> float | None:
    """Returns the seconds that a running job has still to go; None without a clue."""
    if row.desired in {Desired.PAUSE, Desired.CANCEL}:
        return 0.0  # it stops within seconds
    work = measure_work(row.kind, row.spec, row.images)
    whole = durations.estimate(work, row.worker_id)
    if whole is None and row.eta_seconds is None:
        return None
    gone = (row.running_ms + max(0, now - row.started_at)) / 1000
    # The phase's own estimate is of this phase alone: at least so long.
    return max((whole or 0.0) - gone, row.eta_seconds or 0.0, 0.0)


def _make_taker(worker: Worker, free_at: int) -> Taker:
    return Taker(
        worker_id=worker.id,
        kinds=frozenset(worker.kinds),
        queues=frozenset(worker.queues),
        gpu_mem_mb=worker.gpu_mem_mb,
        free_at=free_at,
    )
