"""The records, typed: what every process agrees is true.

Times are milliseconds of the database's clock (`BIGINT`), so that no worker's clock
matters. Text has no length limit. Constraint names follow one convention, so that
migrations can name them.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

BigId = BigInteger().with_variant(Integer, "sqlite")
# SQLite gives the id of a deleted last row out again unless told not to; folders on
# shared storage and lines of the audit are named by id, so an id means one thing ever.
NEVER_REUSE_IDS = {"sqlite_autoincrement": True}


class Base(DeclarativeBase):
    """Declarative base with named constraints and one type per Python type."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: Text,
        int: BigInteger,
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


class User(Base):
    """A person who may sign in; an invited one has no password yet."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)  # sign-in name, lower case
    password_hash: Mapped[str | None]
    role: Mapped[str]  # admin | member
    active: Mapped[bool] = mapped_column(default=True)
    session_key: Mapped[str] = mapped_column(unique=True)  # changed to end sessions
    created_at: Mapped[int]
    max_running: Mapped[int | None]  # trainings at once; null: the installation's
    max_waiting: Mapped[int | None]  # queued jobs; null: the installation's
    __table_args__ = (NEVER_REUSE_IDS,)


class SignInLink(Base):
    """A one-time link: first sign-in, invitation or password reset."""

    __tablename__ = "sign_in_links"
    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[str]  # first | invite | reset
    user_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE")
    )
    email: Mapped[str | None]
    role: Mapped[str | None]
    created_at: Mapped[int]
    expires_at: Mapped[int]
    used_at: Mapped[int | None]


class ApiToken(Base):
    """A bearer token; only its SHA-256 is kept."""

    __tablename__ = "api_tokens"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    token_sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[int]
    last_used_at: Mapped[int | None]


class Dataset(Base):
    """A named collection of labelled images."""

    __tablename__ = "datasets"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[int]
    last_version: Mapped[int] = mapped_column(default=0)
    __table_args__ = (NEVER_REUSE_IDS,)


class DatasetVersion(Base):
    """Verified images, labels and split; never changed after it is published."""

    __tablename__ = "dataset_versions"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE")
    )
    version: Mapped[int]
    job_id: Mapped[int] = mapped_column(unique=True)  # the ingest job that made it
    fingerprint: Mapped[str]
    rel_path: Mapped[str]  # below shared storage
    images: Mapped[int]
    size_bytes: Mapped[int]
    report: Mapped[dict[str, Any]]  # report.json with its lists cut to what pages show
    created_at: Mapped[int]
    parent_id: Mapped[int | None]  # the version it was made from
    changes: Mapped[dict[str, Any] | None]  # the diff against it, in numbers and words
    __table_args__ = (UniqueConstraint("dataset_id", "version"), NEVER_REUSE_IDS)


class Job(Base):
    """One row of the queue. The row is the truth."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    kind: Mapped[str]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    title: Mapped[str]
    group_key: Mapped[str | None] = mapped_column(index=True)  # one submission
    idempotency_key: Mapped[str]
    spec: Mapped[dict[str, Any]]
    spec_sha: Mapped[str]
    # No foreign keys: a finished job goes on naming the dataset it was made from when
    # that has been deleted; `submit` and `claim` check that it is still there.
    dataset_id: Mapped[int | None] = mapped_column(index=True)
    dataset_version_id: Mapped[int | None]
    model_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"), index=True)
    parent_id: Mapped[int | None]  # the job this one trains again
    queue: Mapped[str] = mapped_column(default="default")
    gpu_mem_mb: Mapped[int] = mapped_column(default=0)
    priority: Mapped[int] = mapped_column(default=0)
    fair_rank: Mapped[int] = mapped_column(default=0)
    state: Mapped[str] = mapped_column(default="queued")
    desired: Mapped[str] = mapped_column(default="run")
    fence: Mapped[int] = mapped_column(default=0)
    hb: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[int | None]
    worker_id: Mapped[int | None]
    not_before: Mapped[int] = mapped_column(default=0)
    noprog: Mapped[int] = mapped_column(default=0)  # charged, without progress
    lost: Mapped[int] = mapped_column(default=0)  # uncharged, without progress
    failures: Mapped[int] = mapped_column(default=0)  # exceptions of user code
    attempts: Mapped[int] = mapped_column(default=0)
    last_step: Mapped[int] = mapped_column(default=0)
    attempt_start_step: Mapped[int] = mapped_column(default=0)
    durable: Mapped[int] = mapped_column(default=0)  # pack and feature shards
    attempt_start_durable: Mapped[int] = mapped_column(default=0)
    lineage: Mapped[int] = mapped_column(default=0)
    running_ms: Mapped[int] = mapped_column(default=0)  # of ended attempts
    phase: Mapped[str | None]
    progress_done: Mapped[int] = mapped_column(default=0)
    progress_total: Mapped[int] = mapped_column(default=0)
    progress_unit: Mapped[str | None]
    eta_seconds: Mapped[float | None]
    reason: Mapped[str | None]  # a sentence for the user
    failure_code: Mapped[str | None]
    result: Mapped[dict[str, Any] | None]
    created_at: Mapped[int]
    updated_at: Mapped[int]
    started_at: Mapped[int | None]
    ended_at: Mapped[int | None]
    # Among jobs of one priority and rank; 0 until somebody moves the job.
    place: Mapped[int] = mapped_column(default=0, server_default="0")
    preemptible: Mapped[bool] = mapped_column(default=False, server_default=false())
    gives_way_to: Mapped[int | None]  # the job for which it was asked to stop
    __table_args__ = (
        UniqueConstraint("owner_id", "idempotency_key"),
        Index("ix_jobs_state", "state", "id"),
        CheckConstraint(
            "state IN ('queued','running','paused','succeeded','failed','cancelled')",
            name="state",
        ),
        CheckConstraint("desired IN ('run','pause','finish','cancel')", name="desired"),
        NEVER_REUSE_IDS,
    )
    # Read with the row where a page asks for them (`job_read_store`), else refused.
    owner: Mapped[User] = relationship(viewonly=True, lazy="raise")
    dataset: Mapped[Dataset | None] = relationship(
        viewonly=True,
        lazy="raise",
        primaryjoin="foreign(Job.dataset_id) == Dataset.id",
    )
    model: Mapped["Model | None"] = relationship(viewonly=True, lazy="raise")


# The order in which `claim` takes jobs. Named by columns and not by text, since Alembic
# compares the columns of an index with those of a migrated database.
Index(
    "ix_jobs_claim",
    Job.kind,
    Job.queue,
    Job.priority.desc(),
    Job.fair_rank,
    Job.place,
    Job.id,
    sqlite_where=text("state = 'queued'"),
    postgresql_where=text("state = 'queued'"),
)


class PausedQueue(Base):
    """A queue from which no job is started; no row means that it is open."""

    __tablename__ = "paused_queues"
    name: Mapped[str] = mapped_column(primary_key=True)
    paused_at: Mapped[int]
    paused_by: Mapped[str]  # as in the audit


class Attempt(Base):
    """One worker's run of a job; `fence` is its fencing token."""

    __tablename__ = "attempts"
    job_id: Mapped[int] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    fence: Mapped[int] = mapped_column(primary_key=True)
    uuid: Mapped[str] = mapped_column(unique=True)
    worker_id: Mapped[int | None]
    host: Mapped[str]
    slot: Mapped[str]
    started_at: Mapped[int]
    ended_at: Mapped[int | None]
    outcome: Mapped[str | None]
    charged: Mapped[bool] = mapped_column(default=False)
    progressed: Mapped[bool | None]  # durable progress, known when it has ended
    start_step: Mapped[int] = mapped_column(default=0)  # where it resumed
    exit_code: Mapped[int | None]
    signal: Mapped[int | None]
    oom: Mapped[bool] = mapped_column(default=False)
    error_tail: Mapped[str | None]  # last 64 KiB of output, on failure
    phase: Mapped[str | None]  # the job's when it ended
    __table_args__ = (Index("ix_attempts_worker", "worker_id", "ended_at"),)


class Promise(Base):
    """What was expected of a job while it waited, before attempt `fence + 1`."""

    __tablename__ = "promises"
    job_id: Mapped[int] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    fence: Mapped[int] = mapped_column(primary_key=True)
    made_at: Mapped[int]
    starts_at: Mapped[int]
    ends_at: Mapped[int | None]  # null: nobody could tell


class Checkpoint(Base):
    """A durable, registered resumable state. No row means no checkpoint."""

    __tablename__ = "checkpoints"
    job_id: Mapped[int] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    lineage: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)  # periodic|emergency|final
    rel_path: Mapped[str]
    manifest_sha: Mapped[str]
    size_bytes: Mapped[int]
    metric: Mapped[float | None]
    status: Mapped[str] = mapped_column(default="ok")  # ok | corrupt | deleting
    created_at: Mapped[int]


class Metric(Base):
    """One point of a learning curve."""

    __tablename__ = "metrics"
    job_id: Mapped[int] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int]
    epoch: Mapped[int | None]
    phase: Mapped[str | None]
    value: Mapped[float]


class Note(Base):
    """A sentence on a job's page: what happened, in the user's words."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), index=True
    )
    fence: Mapped[int]
    level: Mapped[str]
    message: Mapped[str]
    created_at: Mapped[int]


class Model(Base):
    """A name in the registry under which versions are published."""

    __tablename__ = "models"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    last_version: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[int]
    __table_args__ = (NEVER_REUSE_IDS,)


class ModelVersion(Base):
    """One published, immutable result with its SavedModel archive.

    Deleting a version empties its files and keeps the row, so that numbers stay
    without gaps and are never given twice.
    """

    __tablename__ = "model_versions"
    model_id: Mapped[int] = mapped_column(
        ForeignKey("models.id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int | None] = mapped_column(
        ForeignKey("jobs.id", ondelete="SET NULL")
    )
    output_name: Mapped[str]
    artifact_sha: Mapped[str]  # saved_model.zip
    artifact_bytes: Mapped[int]
    files: Mapped[dict[str, Any]]  # name -> {sha256, bytes}: card, evaluation, ...
    evaluation: Mapped[dict[str, Any]]
    stage: Mapped[str] = mapped_column(default="none")
    created_at: Mapped[int]
    deleted_at: Mapped[int | None]
    __table_args__ = (UniqueConstraint("job_id", "output_name"),)
    model: Mapped[Model] = relationship(viewonly=True, lazy="raise")


class Worker(Base):
    """One process that owns one training slot."""

    __tablename__ = "workers"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)  # host and slot
    host: Mapped[str]
    slot: Mapped[str]  # cpu, gpu-<uuid>, gpus-<index>-..., ingest
    kinds: Mapped[list[Any]]
    queues: Mapped[list[Any]]
    gpu_mem_mb: Mapped[int] = mapped_column(default=0)
    boot_id: Mapped[str]
    pid: Mapped[int]
    hb: Mapped[int] = mapped_column(default=0)
    seen_at: Mapped[int]
    status: Mapped[str] = mapped_column(default="active")  # draining | quarantined
    reason: Mapped[str | None]
    job_id: Mapped[int | None]
    facts: Mapped[dict[str, Any]]  # versions, cores, memory
    base_models: Mapped[dict[str, Any] | None]  # whose weights it has; null: no trainer
    __table_args__ = (NEVER_REUSE_IDS,)


class Audit(Base):
    """Who did what to which object; append-only: the database refuses all else."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[int]
    actor: Mapped[str]  # user:<id>, worker:<id>, reconciler
    event: Mapped[str]
    object_type: Mapped[str]
    object_id: Mapped[str]
    fence: Mapped[int | None]
    detail: Mapped[dict[str, Any] | None]
    __table_args__ = (
        Index("ix_audit_object", "object_type", "object_id", "id"),
        Index("ix_audit_actor", "actor", "id"),
        NEVER_REUSE_IDS,
    )
