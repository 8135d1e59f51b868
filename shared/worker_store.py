"""The workers: which slots there are, who was seen when, who may take jobs."""

from typing import Any

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.orm import Session

from shared import audit_store
from shared.database import now_ms, read_clock
from shared.errors import NotFoundError, UserError
from shared.job_status import JobStatus
from shared.sql_dialect import insert
from shared.tables import Attempt, Job, Worker

ACTIVE, DRAINING, QUARANTINED, GONE = "active", "draining", "quarantined", "gone"
STATUSES = (ACTIVE, DRAINING, QUARANTINED, GONE)
SEEN_MS = 30_000  # a worker not heard of for this long is not counted as there


def register(
    session: Session,
    *,
    name: str,
    host: str,
    slot: str,
    kinds: list[str],
    queues: list[str],
    gpu_mem_mb: int = 0,
    boot_id: str = "",
    pid: int = 0,
    facts: dict[str, Any] | None = None,
    base_models: dict[str, Any] | None = None,
) -> int:
    """Says that a worker is there, and returns its number, the same one for ever.

    A quarantined slot stays quarantined: a restart does not mend a GPU.

    Args:
        session: The writing session.
        name: Host and slot; one process at a time uses it.
        host: Name of the machine.
        slot: `cpu`, `gpu-<uuid>`, `gpus-<index>-...` or `ingest`.
        kinds: Of jobs that it does.
        queues: Values of `jobs.queue` that it serves.
        gpu_mem_mb: Memory of its GPU, MiB; 0 without one.
        boot_id: Of the machine's present boot.
        pid: Of the worker's main process.
        facts: Versions, cores, memory: for the page.
        base_models: Whose weights it has (`ready`), where others may be put
            (`folders`) and whether it fetches them (`download`); None when it trains
            nothing or has not looked yet.
    """
    values: dict[str, Any] = {
        "host": host,
        "slot": slot,
        "kinds": kinds,
        "queues": queues,
        "gpu_mem_mb": gpu_mem_mb,
        "boot_id": boot_id,
        "pid": pid,
        "seen_at": now_ms(),
        "job_id": None,
        "facts": facts or {},
        "base_models": base_models,
    }
    stays = Worker.status == QUARANTINED
    return session.execute(
        insert(session, Worker)
        .values(name=name, **values)
        .on_conflict_do_update(
            index_elements=["name"],
            set_={
                **values,
                "hb": Worker.hb + 1,
                "status": case((stays, QUARANTINED), else_=ACTIVE),
                "reason": case((stays, Worker.reason), else_=None),
            },
        )
        .returning(Worker.id)
    ).scalar_one()


def beat(
    session: Session,
    worker_id: int,
    *,
    job_id: int | None = None,
    base_models: dict[str, Any] | None = None,
) -> str:
    """Says that the worker lives and what it works on; returns its status.

    Args:
        session: The writing session.
        worker_id: The worker.
        job_id: What it works on.
        base_models: As in `register`; None leaves what the row says.

    Raises:
        NotFoundError: When it is no longer registered: register again.
    """
    news = {} if base_models is None else {"base_models": base_models}
    status = session.execute(
        update(Worker)
        .where(Worker.id == worker_id)
        .values(hb=Worker.hb + 1, seen_at=now_ms(), job_id=job_id, **news)
        .returning(Worker.status)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if status is None:
        raise NotFoundError(f"There is no worker {worker_id}.")
    return status


def set_status(
    session: Session,
    worker_id: int,
    status: str,
    *,
    reason: str | None = None,
    actor: str = "system",
) -> None:
    """Changes whether a worker may take jobs.

    Args:
        session: The writing session.
        worker_id: The worker.
        status: `active`; `draining` ends its job and takes no other; `quarantined`
            takes none until somebody lifts it; `gone` has stopped in good order.
        reason: A sentence for the page.
        actor: Who asks.

    Raises:
        NotFoundError: When there is no such worker.
        UserError: For any other status.
    """
    if status not in STATUSES:
        raise UserError(
            f"`status` must be one of {', '.join(STATUSES)}. Received: {status!r}.",
            field="status",
        )
    changed = session.execute(
        update(Worker)
        .where(Worker.id == worker_id)
        .values(status=status, reason=reason)
        .returning(Worker.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if changed is None:
        raise NotFoundError(f"There is no worker {worker_id}.")
    audit_store.record(
        session, actor, f"worker_{status}", "worker", worker_id, {"reason": reason}
    )


def lift_quarantine(session: Session, worker_id: int, *, actor: str) -> bool:
    """Lets a quarantined worker take jobs again; whether it was one.

    Args:
        session: The writing session.
        worker_id: The worker.
        actor: Who found it well.
    """
    lifted = session.execute(
        update(Worker)
        .where(Worker.id == worker_id, Worker.status == QUARANTINED)
        .values(status=ACTIVE, reason=None)
        .returning(Worker.id)
    ).one_or_none()
    if lifted:
        audit_store.record(
            session, actor, f"worker_{ACTIVE}", "worker", worker_id, {"reason": None}
        )
    return lifted is not None


def explain_quarantine(session: Session, worker_id: int, reason: str) -> None:
    """Says on the page why a quarantined worker stays so."""
    session.execute(
        update(Worker)
        .where(Worker.id == worker_id, Worker.status == QUARANTINED)
        .values(reason=reason)
    )


def get_worker(session: Session, worker_id: int) -> Worker:
    """Returns a worker.

    Raises:
        NotFoundError: When there is none.
    """
    worker = session.get(Worker, worker_id, populate_existing=True)
    if worker is None:
        raise NotFoundError(f"There is no worker {worker_id}.")
    return worker


def find_at_work(session: Session, job_id: int, fence: int) -> Worker | None:
    """Returns the worker that makes this attempt; None when its row was removed."""
    return session.scalars(
        select(Worker)
        .join(Attempt, Attempt.worker_id == Worker.id)
        .where(Attempt.job_id == job_id, Attempt.fence == fence)
    ).one_or_none()


def list_workers(session: Session) -> list[Worker]:
    """Returns all workers by name, those long gone among them."""
    return list(session.scalars(select(Worker).order_by(Worker.name)))


def list_takers(session: Session, kind: str, queue: str) -> list[Worker]:
    """Returns the workers that are there, take jobs, and do such ones of this queue."""
    now = read_clock(session)
    return [
        worker
        for worker in list_workers(session)
        if worker.status == ACTIVE
        and is_alive(worker, now)
        and kind in worker.kinds
        and queue in worker.queues
    ]


def list_queues(session: Session) -> set[str]:
    """Returns every queue that some worker, there or away, serves."""
    served = session.scalars(select(Worker.queues).where(Worker.status != GONE))
    return {name for queues in served for name in queues}


def find_largest_gpu_mb(session: Session) -> int:
    """Returns the most GPU memory that some worker, there or away, has; 0: no GPU."""
    most = session.scalar(
        select(func.max(Worker.gpu_mem_mb)).where(Worker.status != GONE)
    )
    return most or 0


def list_running_jobs(session: Session, worker_ids: list[int]) -> list[int]:
    """Returns the numbers of the jobs that run on these workers now."""
    running = select(Job.id).where(
        Job.state == JobStatus.RUNNING, Job.worker_id.in_(worker_ids)
    )
    return list(session.scalars(running.order_by(Job.id)))


def is_alive(worker: Worker, now: int) -> bool:
    """Whether the worker was heard of lately; `now` in the database's milliseconds."""
    return worker.status != GONE and now - worker.seen_at < SEEN_MS


def count_idle(session: Session, kinds: list[str]) -> int:
    """Returns how many active workers seen lately have no job and do one of `kinds`."""
    idle = session.scalars(
        select(Worker.kinds).where(
            Worker.status == ACTIVE,
            Worker.job_id.is_(None),
            Worker.seen_at > now_ms() - SEEN_MS,
        )
    )
    return sum(not set(kinds).isdisjoint(theirs) for theirs in idle)


def is_alone(
    session: Session, worker_id: int, *, kinds: list[str], queues: list[str]
) -> bool:
    """Whether no other active worker seen lately does such jobs.

    Args:
        session: Any session.
        worker_id: The worker that asks.
        kinds: Of jobs that it does.
        queues: Values of `jobs.queue` that it serves.
    """
    others = session.execute(
        select(Worker.kinds, Worker.queues).where(
            Worker.id != worker_id,
            Worker.status == ACTIVE,
            Worker.seen_at > now_ms() - SEEN_MS,
        )
    )
    return all(
        set(kinds).isdisjoint(theirs) or set(queues).isdisjoint(served)
        for theirs, served in others
    )


def forget(session: Session, worker_id: int, *, actor: str) -> None:
    """Removes a worker that will not come back; one that does registers anew."""
    session.execute(delete(Worker).where(Worker.id == worker_id))
    audit_store.record(session, actor, "worker_forgotten", "worker", worker_id)
