"""Asking running jobs to give way to more urgent ones (`preemption`)."""

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared import audit_store, user_limit_store, worker_store
from shared.attempt_progress_store import write_note
from shared.database import now_ms, read_clock
from shared.job_order_store import CLAIM_ORDER
from shared.job_status import Desired, JobKind, JobStatus
from shared.preemption import Occupant, Slot, Urgent, choose_giving_way
from shared.tables import Attempt, Job, PausedQueue, Worker

LOOKED_AT = 500  # waiting jobs, the most urgent ones


def make_way(
    session: Session, max_running_per_user: int | None, *, actor: str
) -> list[int]:
    """Asks jobs to give way where a more urgent one waits; returns their numbers.

    Run by two at once, each job is asked once.
    """
    lowest = session.scalar(
        select(func.min(Job.priority)).where(
            Job.state == JobStatus.RUNNING, Job.preemptible, Job.desired == Desired.RUN
        )
    )
    if lowest is None:
        return []
    waiting = _list_urgent(session, lowest, max_running_per_user)
    if not waiting:
        return []
    return [
        occupant.job_id
        for occupant, job in choose_giving_way(waiting, _list_slots(session))
        if _ask(session, occupant, job, actor)
    ]


def _list_urgent(
    session: Session, above: int, max_running_per_user: int | None
) -> list[Urgent]:
    full_owners = user_limit_store.list_full(session, max_running_per_user)
    rows = session.execute(
        select(Job.id, Job.kind, Job.queue, Job.gpu_mem_mb, Job.priority)
        .where(
            Job.state == JobStatus.QUEUED,
            Job.desired.in_([Desired.RUN, Desired.FINISH]),
            Job.priority > above,
            Job.not_before <= now_ms(),
            Job.queue.not_in(select(PausedQueue.name)),
            (Job.kind != JobKind.TRAIN) | Job.owner_id.not_in(full_owners),
        )
        .order_by(*CLAIM_ORDER)
        .limit(LOOKED_AT)
    )
    return [Urgent(*row) for row in rows]


def _list_slots(session: Session) -> list[Slot]:
    now = read_clock(session)
    occupants = {row.worker_id: row for row in session.execute(_running())}
    return [
        Slot(
            worker_id=worker.id,
            kinds=frozenset(worker.kinds),
            queues=frozenset(worker.queues),
            gpu_mem_mb=worker.gpu_mem_mb,
            occupant=_make_occupant(occupants.get(worker.id)),
        )
        for worker in worker_store.list_workers(session)
        if worker.status == worker_store.ACTIVE and worker_store.is_alive(worker, now)
    ]


def _running():  # noqa: ANN202 - a Select of these columns
    return (
        select(
            Job.id,
            Job.fence,
            Job.priority,
            Job.preemptible,
            Job.worker_id,
            Job.desired,
            Attempt.started_at,
        )
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence))
        .join(Worker, Worker.id == Job.worker_id)
        .where(Job.state == JobStatus.RUNNING)
    )


def _make_occupant(row) -> Occupant | None:  # noqa: ANN001 - a row of `_running`
    if row is None or row.desired in {Desired.PAUSE, Desired.CANCEL}:
        return None  # it stops within seconds
    may = row.preemptible and row.desired == Desired.RUN
    return Occupant(row.id, row.fence, row.priority, may, row.started_at)


def _ask(session: Session, occupant: Occupant, job: Urgent, actor: str) -> bool:
    asked = session.execute(
        update(Job)
        .where(
            Job.id == occupant.job_id,
            Job.fence == occupant.fence,
            Job.state == JobStatus.RUNNING,
            Job.desired == Desired.RUN,
        )
        .values(desired=Desired.PAUSE, gives_way_to=job.job_id, updated_at=now_ms())
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if asked is None:
        return False
    audit_store.record(
        session, actor, "job_gives_way", "job", occupant.job_id,
        {"to": job.job_id}, fence=occupant.fence,
    )  # fmt: skip
    write_note(
        session,
        occupant.job_id,
        occupant.fence,
        "info",
        f"It gives way to job {job.job_id}, which is more urgent, and goes on later "
        "from where it was.",
    )
    return True
