"""How a job gets into the queue: once per owner and idempotency key."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared import audit_store
from shared.database import now_ms
from shared.errors import ConflictError, NotFoundError, UserError
from shared.job_status import JobKind, JobStatus
from shared.sql_dialect import insert
from shared.tables import Dataset, DatasetVersion, Job

MAX_PRIORITY = 100  # either way


@dataclass(frozen=True)
class Submitted:
    """The job of one request; `created` is False when an earlier one had made it."""

    job_id: int
    created: bool


def submit(
    session: Session,
    *,
    owner_id: int,
    kind: str,
    title: str,
    spec: dict[str, Any],
    idempotency_key: str,
    dataset_id: int | None = None,
    dataset_version_id: int | None = None,
    model_id: int | None = None,
    group_key: str | None = None,
    queue: str = "default",
    priority: int = 0,
    gpu_mem_mb: int = 0,
    parent_id: int | None = None,
) -> Submitted:
    """Puts one job into the queue, once per owner and `idempotency_key`.

    Ring (`queue.ring`) after the commit. The key of one request that makes many jobs
    is `KEY#index`.

    Raises:
        ConflictError: When the key has been used for something else.
        NotFoundError: When the dataset is gone.
        UserError: When a value is out of its range.
    """
    check_values(kind, priority, gpu_mem_mb)
    asked = {
        "kind": kind,
        "spec": spec,
        "dataset_id": dataset_id,
        "model_id": model_id,
        "queue": queue,
        "priority": priority,
        "gpu_mem_mb": gpu_mem_mb,
    }
    spec_sha = hash_spec(asked)
    found = _find_submitted(session, owner_id, idempotency_key, spec_sha)
    if found is not None:
        return found
    hold_dataset(session, dataset_id, dataset_version_id)
    now = now_ms()
    row = {
        **asked,
        "owner_id": owner_id,
        "title": title,
        "group_key": group_key,
        "idempotency_key": idempotency_key,
        "spec_sha": spec_sha,
        "dataset_version_id": dataset_version_id,
        "parent_id": parent_id,
        "fair_rank": next_fair_rank(session, owner_id, kind, queue, priority),
        "created_at": now,
        "updated_at": now,
    }
    statement = (
        insert(session, Job)
        .values(row)
        .on_conflict_do_nothing(index_elements=["owner_id", "idempotency_key"])
        .returning(Job.id)
    )
    job_id = session.execute(statement).scalar_one_or_none()
    if job_id is None:  # another request with this key was a moment faster
        raced = _find_submitted(session, owner_id, idempotency_key, spec_sha)
        if raced is None:
            raise ConflictError("This job is being deleted. Submit it again.")
        return raced
    audit_store.record(
        session, f"user:{owner_id}", "job_submitted", "job", job_id, {"kind": kind}
    )
    return Submitted(job_id, created=True)


def hash_spec(asked: dict[str, Any]) -> str:
    """Returns the SHA-256 of `asked` as canonical JSON."""
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def check_values(kind: str, priority: int, gpu_mem_mb: int) -> None:
    """Raises `UserError` naming the first value that is out of its range."""
    if kind not in list(JobKind):
        raise UserError(
            f"`kind` must be one of {', '.join(JobKind)}. Received: kind={kind!r}.",
            field="kind",
        )
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise UserError(
            f"`priority` must be -{MAX_PRIORITY} to {MAX_PRIORITY}. "
            f"Received: priority={priority}.",
            field="priority",
        )
    if gpu_mem_mb < 0:
        raise UserError(
            f"`gpu_mem_mb` must be 0 or more. Received: gpu_mem_mb={gpu_mem_mb}.",
            field="gpu_mem_mb",
        )


def _find_submitted(
    session: Session, owner_id: int, idempotency_key: str, spec_sha: str
) -> Submitted | None:
    row = session.execute(
        select(Job.id, Job.spec_sha).where(
            Job.owner_id == owner_id, Job.idempotency_key == idempotency_key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.spec_sha != spec_sha:
        raise ConflictError(
            f"The idempotency key {idempotency_key!r} was used for another request "
            f"(job {row.id}). Use a new key for a new request.",
            field="idempotency_key",
        )
    return Submitted(row.id, created=False)


def hold_dataset(
    session: Session, dataset_id: int | None, version_id: int | None
) -> None:
    """Keeps the dataset from being deleted until this transaction ends."""
    if dataset_id is not None and (
        session.execute(
            select(Dataset.id)
            .where(Dataset.id == dataset_id)
            .with_for_update(read=True)
        ).one_or_none()
        is None
    ):
        raise NotFoundError(f"There is no dataset {dataset_id}.", field="dataset_id")
    if version_id is not None and (
        session.execute(
            select(DatasetVersion.id).where(
                DatasetVersion.id == version_id, DatasetVersion.dataset_id == dataset_id
            )
        ).one_or_none()
        is None
    ):
        raise NotFoundError(
            f"Dataset {dataset_id} has no such version.", field="dataset_version_id"
        )


def next_fair_rank(
    session: Session, owner_id: int, kind: str, queue: str, priority: int
) -> int:
    """Returns the place of an owner's next job among equals: start-time fair queueing.

    An owner's own jobs keep their order; an owner who comes later starts level with
    what is next in line, so one user's hundred jobs do not hold up another's one.
    """
    waiting = (
        Job.state == JobStatus.QUEUED,
        Job.kind == kind,
        Job.queue == queue,
        Job.priority == priority,
    )
    own, first = session.execute(
        select(
            select(func.max(Job.fair_rank))
            .where(*waiting, Job.owner_id == owner_id)
            .scalar_subquery(),
            select(func.min(Job.fair_rank)).where(*waiting).scalar_subquery(),
        )
    ).one()
    return max(0 if own is None else own + 1, first or 0)
