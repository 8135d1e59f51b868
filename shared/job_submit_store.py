"""How jobs get into the queue: once per owner and idempotency key."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared import audit_store
from shared.database import now_ms
from shared.errors import ConflictError, NotFoundError, UserError
from shared.job_status import JobKind, JobStatus
from shared.sql_dialect import in_parts, insert
from shared.tables import Dataset, DatasetVersion, Job

MAX_PRIORITY = 100  # either way
FIRST_PRIORITY = MAX_PRIORITY + 1  # above all that users may ask for
DEFAULT_QUEUE = "default"
_TAKEN_TOGETHER = (JobKind.TRAIN, JobKind.FORECAST)


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job as it is asked for.

    Args:
        owner_id: Whose it is.
        kind: A value of `JobKind`.
        title: For people.
        spec: What it is to do, as JSON values.
        idempotency_key: The same one makes nothing a second time. The key of one
            request that makes many jobs is `KEY#index`.
        dataset_id: Its dataset.
        dataset_version_id: The version of it.
        model_id: Under which name it publishes.
        group_key: The submission that it is part of.
        queue: Name of the queue that workers must serve.
        priority: -100 to 100; higher goes first.
        gpu_mem_mb: Memory that its GPU must have, MiB.
        not_before: When it may start at the earliest, in milliseconds since 1970.
        parent_id: The job that this one trains again.
        preemptible: It may be stopped for a more urgent one, and goes on later.
        goes_first: It goes before all that users have asked for: the platform asks.
    """

    owner_id: int
    kind: str
    title: str
    spec: dict[str, Any]
    idempotency_key: str
    dataset_id: int | None = None
    dataset_version_id: int | None = None
    model_id: int | None = None
    group_key: str | None = None
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    gpu_mem_mb: int = 0
    not_before: int = 0
    parent_id: int | None = None
    preemptible: bool = False
    goes_first: bool = False

    @property
    def standing(self) -> int:
        """The priority that its row gets."""
        return FIRST_PRIORITY if self.goes_first else self.priority

    def asked(self) -> dict[str, Any]:
        """Returns what makes this request another one than that of another job."""
        names = ("kind", "spec", "dataset_id", "model_id", "queue", "priority")
        asked = {name: getattr(self, name) for name in (*names, "gpu_mem_mb")}
        # Only where they are used: requests from before they were there keep their
        # digests.
        later = {"not_before": self.not_before, "preemptible": self.preemptible}
        return asked | {name: value for name, value in later.items() if value}


@dataclass(frozen=True)
class Submitted:
    """The job of one request; `created` is False when an earlier one had made it."""

    job_id: int
    created: bool


def submit(session: Session, **values: Any) -> Submitted:
    """Puts one job into the queue: `submit_all` of the `NewJob` with these values."""
    return submit_all(session, [NewJob(**values)])[0]


def submit_all(session: Session, jobs: Sequence[NewJob]) -> list[Submitted]:
    """Puts jobs of one owner into the queue, once per `idempotency_key`.

    Ring (`queue.ring`) after the commit.

    Returns:
        The job of each, in their order.

    Raises:
        ConflictError: When a key has been used for something else.
        NotFoundError: When a dataset is gone.
        UserError: When a value is out of its range.
    """
    digests = {}
    for job in jobs:
        check_values(job.kind, job.priority, job.gpu_mem_mb)
        digests[job.idempotency_key] = hash_spec(job.asked())
    found = _find_submitted(session, jobs, digests)
    created = _insert(
        session, [job for job in jobs if job.idempotency_key not in found], digests
    )
    # Another request with such a key may have been a moment faster.
    raced = [j for j in jobs if j.idempotency_key not in found.keys() | created.keys()]
    found |= _find_submitted(session, raced, digests)
    numbers = found | created
    if any(job.idempotency_key not in numbers for job in raced):
        raise ConflictError("This job is being deleted. Submit it again.")
    return [
        Submitted(numbers[job.idempotency_key], job.idempotency_key in created)
        for job in jobs
    ]


def _find_submitted(
    session: Session, jobs: Sequence[NewJob], digests: dict[str, str]
) -> dict[str, int]:
    """Returns the jobs that were made of these keys before, by key."""
    found: dict[str, int] = {}
    for some in in_parts(jobs):
        rows = session.execute(
            select(Job.id, Job.idempotency_key, Job.spec_sha).where(
                Job.owner_id == some[0].owner_id,
                Job.idempotency_key.in_([job.idempotency_key for job in some]),
            )
        )
        for row in rows:
            if row.spec_sha != digests[row.idempotency_key]:
                raise ConflictError(
                    f"The idempotency key {row.idempotency_key!r} was used for another "
                    f"request (job {row.id}). Use a new key for a new request.",
                    field="idempotency_key",
                )
            found[row.idempotency_key] = row.id
    return found


def _insert(
    session: Session, jobs: Sequence[NewJob], digests: dict[str, str]
) -> dict[str, int]:
    """Adds the jobs whose keys nobody has used; returns their numbers by key."""
    for dataset_id, version_id in dict.fromkeys(
        (job.dataset_id, job.dataset_version_id) for job in jobs
    ):
        hold_dataset(session, dataset_id, version_id)
    created: dict[str, int] = {}
    ranked = list(zip(jobs, _list_fair_ranks(session, jobs), strict=True))
    for some in in_parts(ranked):
        rows = [
            {
                **job.asked(),
                "priority": job.standing,
                "not_before": job.not_before,
                "preemptible": job.preemptible,
                "owner_id": job.owner_id,
                "title": job.title,
                "group_key": job.group_key,
                "idempotency_key": job.idempotency_key,
                "spec_sha": digests[job.idempotency_key],
                "dataset_version_id": job.dataset_version_id,
                "parent_id": job.parent_id,
                "fair_rank": rank,
                "created_at": now_ms(),
                "updated_at": now_ms(),
            }
            for job, rank in some
        ]
        made = session.execute(
            insert(session, Job)
            .values(rows)
            .on_conflict_do_nothing(index_elements=["owner_id", "idempotency_key"])
            .returning(Job.idempotency_key, Job.id)
        )
        created |= {row.idempotency_key: row.id for row in made}
    audit_store.record_all(
        session,
        [
            audit_store.Entry(
                f"user:{job.owner_id}", "job_submitted", "job",
                created[job.idempotency_key], {"kind": job.kind},
            )
            for job in jobs
            if job.idempotency_key in created
        ],
    )  # fmt: skip
    return created


def _list_fair_ranks(session: Session, jobs: Iterable[NewJob]) -> list[int]:
    """Returns the turn of each job: an owner's own keep their order."""
    ranks, following = [], {}
    for job in jobs:
        equals = (job.owner_id, job.kind, job.queue, job.standing)
        rank = following.get(equals)
        if rank is None:
            rank = next_fair_rank(session, *equals)
        following[equals] = rank + 1
        ranks.append(rank)
    return ranks


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


def hold_dataset_alone(session: Session, dataset_id: int) -> None:
    """Lets no other transaction hold the dataset until this one ends."""
    session.execute(
        select(Dataset.id).where(Dataset.id == dataset_id).with_for_update()
    )


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
    Trainings and forecasts, which one worker takes, are equals.
    """
    kinds = _TAKEN_TOGETHER if kind in _TAKEN_TOGETHER else (kind,)
    # One kind after the other: so each question walks the index over queued jobs.
    ranks = [_find_ranks(session, owner_id, one, queue, priority) for one in kinds]
    own = [last for last, _ in ranks if last is not None]
    first = [first for _, first in ranks if first is not None]
    return max(max(own) + 1 if own else 0, min(first, default=0))


def _find_ranks(
    session: Session, owner_id: int, kind: str, queue: str, priority: int
) -> tuple[int | None, int | None]:
    """Returns the last rank of an owner's waiting jobs, and the first of anybody's."""
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
    return own, first
