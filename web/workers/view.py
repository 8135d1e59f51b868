"""What pages show of workers."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared import worker_store
from shared.database import read_clock
from shared.tables import Worker
from shared.weight_files import describe_report


@dataclass(frozen=True)
class WorkerRow:
    """A worker as tables and the API show it."""

    id: int
    name: str
    host: str
    slot: str
    shown: str
    alive: bool
    status: str
    reason: str | None
    kinds: list[str]
    queues: list[str]
    job_id: int | None
    facts: str
    seen_at: int
    base_models: dict[str, Any] | None

    @property
    def base_models_words(self) -> str:
        """How many base models it could train at once."""
        return describe_report(self.base_models)


def list_rows(session: Session) -> list[WorkerRow]:
    """Returns every worker that has not left in good order."""
    now = read_clock(session)
    return [
        _make_row(worker, now)
        for worker in worker_store.list_workers(session)
        if worker.status != worker_store.GONE
    ]


def _make_row(worker: Worker, now: int) -> WorkerRow:
    alive = worker_store.is_alive(worker, now)
    return WorkerRow(
        id=worker.id,
        name=worker.name,
        host=worker.host,
        slot=worker.slot,
        shown=_shown(worker, alive=alive),
        alive=alive,
        status=worker.status,
        reason=worker.reason,
        kinds=list(worker.kinds),
        queues=list(worker.queues),
        job_id=worker.job_id if alive else None,
        facts=", ".join(f"{k}: {v}" for k, v in sorted((worker.facts or {}).items())),
        seen_at=worker.seen_at,
        base_models=worker.base_models,
    )


def _shown(worker: Worker, *, alive: bool) -> str:
    if not alive:
        return "away"
    if worker.status != worker_store.ACTIVE:
        return worker.status
    return "busy" if worker.job_id else "idle"
