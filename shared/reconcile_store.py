"""What the reconciler asks of the records, and the few things it writes itself.

Every write is conditional, so any number of reconcilers may run at once.
"""

import itertools
from dataclasses import dataclass

from sqlalchemy import delete, func, or_, select, text, update
from sqlalchemy.orm import Session

from shared import user_limit_store
from shared.attempt_progress_store import FINAL
from shared.database import now_ms, read_clock
from shared.forecast_tables import Forecast
from shared.job_status import TERMINAL, Desired, JobKind, JobStatus
from shared.tables import (
    Attempt,
    Audit,
    Checkpoint,
    Dataset,
    DatasetVersion,
    Job,
    ModelVersion,
    PausedQueue,
    Worker,
)
from shared.upload_use_store import find_uploads
from shared.worker_store import ACTIVE

KEPT_CHECKPOINTS = 3
QUARANTINE_AFTER = 3  # different jobs in a row without progress
# A job that nobody else takes fails three times in a row on one slot.
MOST_LOOKED_AT = 20


@dataclass(frozen=True)
class RunningJob:
    """What the reaper watches of one running job."""

    job_id: int
    fence: int
    hb: int
    expired: bool
    running_ms: int


def list_running(session: Session) -> list[RunningJob]:
    """Returns every running job as the database's clock sees it now."""
    now = read_clock(session)
    rows = session.execute(
        select(
            Job.id,
            Job.fence,
            Job.hb,
            Job.lease_until,
            Job.running_ms,
            Attempt.started_at,
        )
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence))
        .where(Job.state == JobStatus.RUNNING)
    )
    return [
        RunningJob(
            job_id=row.id,
            fence=row.fence,
            hb=row.hb,
            expired=(row.lease_until or 0) < now,
            running_ms=row.running_ms + max(0, now - row.started_at),
        )
        for row in rows
    ]


def refuse_to_wait(session: Session) -> None:
    """Raises at once where the table of jobs is locked, instead of waiting.

    On SQLite a writing transaction has the only lock when it begins.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE jobs IN ROW EXCLUSIVE MODE NOWAIT"))


def stands_still(session: Session, job: RunningJob) -> bool:
    """Whether the job is as it was seen, and stays so until this transaction ends.

    Raises:
        OperationalError: When somebody else holds its row.
    """
    found = session.execute(
        select(Job.id)
        .where(
            Job.id == job.job_id,
            Job.fence == job.fence,
            Job.hb == job.hb,
            Job.state == JobStatus.RUNNING,
        )
        .with_for_update(nowait=True)
    )
    return found.one_or_none() is not None


def count_claimable(
    session: Session, kinds: list[str], max_running_per_user: int | None = None
) -> int:
    """Returns how many jobs of `kinds` wait in open queues and may start now."""
    full_owners = user_limit_store.list_full(session, max_running_per_user)
    return session.execute(
        select(func.count())
        .select_from(Job)
        .where(
            Job.state == JobStatus.QUEUED,
            Job.desired.in_([Desired.RUN, Desired.FINISH]),
            Job.kind.in_(kinds),
            Job.not_before <= now_ms(),
            Job.queue.not_in(select(PausedQueue.name)),
            (Job.kind != JobKind.TRAIN) | Job.owner_id.not_in(full_owners),
        )
    ).scalar_one()


def find_failing_workers(session: Session) -> list[tuple[int, str]]:
    """Returns (id, name) of active workers whose last jobs all ended for nothing.

    That is: the last attempts, of `QUARANTINE_AFTER` different jobs at least, were
    charged and made no progress. A bad spec or bad data are not charged, so they never
    take a slot out of service; three jobs whose training raises may, until the slot
    has tested itself. Forecasts that failed do not count: no slot shall stop training
    for what nobody has asked for. What happened before somebody last lifted a
    quarantine does not count.
    """
    active = select(Worker.id, Worker.name).where(Worker.status == ACTIVE)
    return [
        (worker_id, name)
        for worker_id, name in session.execute(active).all()
        if len(_list_failed_in_a_row(session, worker_id)) >= QUARANTINE_AFTER
    ]


def _list_failed_in_a_row(session: Session, worker_id: int) -> set[int]:
    """Returns the jobs of a worker's last attempts, as far back as all got nowhere."""
    lifted_at = session.scalar(
        select(func.max(Audit.at)).where(
            Audit.object_type == "worker",
            Audit.object_id == str(worker_id),
            Audit.event == f"worker_{ACTIVE}",
        )
    )
    last = session.execute(
        select(Attempt.job_id, Attempt.charged, Attempt.progressed)
        .join(Job, Job.id == Attempt.job_id)
        .where(
            Attempt.worker_id == worker_id,
            Attempt.ended_at.is_not(None),
            Attempt.started_at > (lifted_at or 0),
            or_(Job.kind != JobKind.FORECAST, Attempt.progressed.is_(True)),
        )
        .order_by(Attempt.ended_at.desc())
        .limit(MOST_LOOKED_AT)
    )
    failed = itertools.takewhile(lambda row: row.charged and not row.progressed, last)
    return {row.job_id for row in failed}


def take_superfluous_checkpoints(session: Session, limit: int) -> list[str]:
    """Marks checkpoints that no resume will ask for; returns all that are marked.

    Of each job the newest three stay, the best by its monitor, and finished results.

    Returns:
        Folders below shared storage, to be removed before `forget_checkpoints`.
    """
    jobs = session.scalars(
        select(Checkpoint.job_id)
        .where(Checkpoint.status == "ok", Checkpoint.kind != FINAL)
        .group_by(Checkpoint.job_id)
        # The newest and the best: a job at this number has nothing to give.
        .having(func.count() > KEPT_CHECKPOINTS + 1)
        .limit(limit)
    ).all()
    for job_id in jobs:
        _mark_old(session, job_id)
    return list(
        session.scalars(
            select(Checkpoint.rel_path)
            .where(Checkpoint.status == "deleting")
            .limit(10 * limit)
        )
    )


def forget_checkpoints(session: Session, rel_paths: list[str]) -> None:
    """Deletes the rows of checkpoints whose files are gone."""
    session.execute(
        delete(Checkpoint).where(
            Checkpoint.rel_path.in_(rel_paths), Checkpoint.status == "deleting"
        )
    )


@dataclass(frozen=True)
class NamedFiles:
    """Everything on shared storage that rows name.

    Args:
        highest_job: The greatest job number that a row has.
        highest_dataset: The greatest dataset number that a row has.
        jobs: Every job, with the fence of its running attempt.
        ended_jobs: Those that run no more unless a user tries them again.
        datasets: Every dataset.
        busy_datasets: Those that an unfinished ingest or forecast may be writing to.
        checkpoints: Their folders.
        dataset_versions: Their folders.
        forecasts: Their folders, each with that of the next one of the same version;
            None for the newest.
        artifacts: Digests of the files of published versions.
        uploads: Ids of uploads that an ingest job may still read.
        fingerprints: Of all dataset versions.
    """

    highest_job: int
    highest_dataset: int
    jobs: dict[int, int | None]
    ended_jobs: set[int]
    datasets: set[int]
    busy_datasets: set[int]
    checkpoints: set[str]
    dataset_versions: set[str]
    forecasts: dict[str, str | None]
    artifacts: set[str]
    uploads: set[str]
    fingerprints: set[str]


def list_named_files(session: Session) -> NamedFiles:
    """Returns what shared storage must keep."""
    states = session.execute(select(Job.id, Job.fence, Job.state)).all()
    jobs = {
        job_id: fence if state == JobStatus.RUNNING else None
        for job_id, fence, state in states
    }
    datasets = set(session.scalars(select(Dataset.id)))
    versions = session.execute(
        select(DatasetVersion.rel_path, DatasetVersion.fingerprint)
    ).all()
    busy, uploads = _list_writers(session)
    return NamedFiles(
        highest_job=max(jobs, default=0),
        highest_dataset=max(datasets, default=0),
        jobs=jobs,
        ended_jobs={row.id for row in states if row.state in TERMINAL},
        datasets=datasets,
        busy_datasets=busy,
        checkpoints=set(session.scalars(select(Checkpoint.rel_path))),
        dataset_versions={row.rel_path for row in versions},
        forecasts=_list_forecasts(session),
        artifacts=_list_artifacts(session),
        uploads=uploads,
        fingerprints={row.fingerprint for row in versions},
    )


def _list_forecasts(session: Session) -> dict[str, str | None]:
    later = func.lead(Forecast.rel_path).over(
        partition_by=Forecast.dataset_version_id, order_by=Forecast.id
    )
    rows = session.execute(select(Forecast.rel_path, later.label("later")))
    return {row.rel_path: row.later for row in rows}


def _list_artifacts(session: Session) -> set[str]:
    named: set[str] = set()
    for sha, files in session.execute(
        select(ModelVersion.artifact_sha, ModelVersion.files).where(
            ModelVersion.deleted_at.is_(None)
        )
    ):
        named.add(sha)
        named.update(file["sha256"] for file in (files or {}).values())
    return named


def _list_writers(session: Session) -> tuple[set[int], set[str]]:
    """Returns datasets being written and uploads still needed.

    A failed or cancelled ingest may be tried again, so its uploads stay with it.
    """
    busy: set[int] = set()
    uploads: set[str] = set()
    for dataset_id, state, spec in session.execute(
        select(Job.dataset_id, Job.state, Job.spec).where(
            Job.kind.in_([JobKind.INGEST, JobKind.FORECAST]),
            Job.state != JobStatus.SUCCEEDED,
        )
    ):
        uploads |= find_uploads(spec)
        if dataset_id is not None and state not in TERMINAL:
            busy.add(dataset_id)
    return busy, uploads


def find_violations(session: Session) -> list[str]:
    """Returns what contradicts the protocol's invariants: always nothing.

    A finding is reported, never repaired in silence.
    """
    found = []
    for name, statement in _VIOLATIONS.items():
        count = session.execute(text(statement)).scalar_one()
        if count:
            found.append(f"{name}: {count}")
    return found


def _mark_old(session: Session, job_id: int) -> None:
    monitor = session.scalar(select(Job.spec).where(Job.id == job_id)) or {}
    rising = monitor.get("training", {}).get("monitor") == "val_accuracy"
    rows = session.scalars(
        select(Checkpoint)
        .where(
            Checkpoint.job_id == job_id,
            Checkpoint.status == "ok",
            Checkpoint.kind != FINAL,
        )
        .order_by(
            Checkpoint.lineage.desc(), Checkpoint.step.desc(), Checkpoint.fence.desc()
        )
    ).all()
    kept = list(rows[:KEPT_CHECKPOINTS])
    scored = [row for row in rows if row.metric is not None]
    if scored:
        pick = max if rising else min
        kept.append(pick(scored, key=lambda row: row.metric or 0.0))
    for row in rows:
        if row not in kept:
            session.execute(
                update(Checkpoint)
                .where(Checkpoint.rel_path == row.rel_path, Checkpoint.status == "ok")
                .values(status="deleting")
            )


_VIOLATIONS = {
    "I1 running jobs without exactly one open attempt, their own": """
        SELECT count(*) FROM jobs j WHERE j.state = 'running' AND
        (SELECT count(*) FROM attempts a WHERE a.job_id = j.id AND
         a.ended_at IS NULL AND a.fence = j.fence) <> 1""",
    "I1 open attempts of jobs that do not run them": """
        SELECT count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id
        WHERE a.ended_at IS NULL AND (j.state <> 'running' OR a.fence <> j.fence)""",
    "I2 attempts from the future": """
        SELECT count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id
        WHERE a.fence > j.fence""",
    "I2 checkpoints from the future": """
        SELECT count(*) FROM checkpoints c JOIN jobs j ON j.id = c.job_id
        WHERE c.fence > j.fence""",
    "I3 succeeded training jobs without a version": """
        SELECT count(*) FROM jobs j WHERE j.kind = 'train' AND j.state = 'succeeded'
        AND NOT EXISTS (SELECT 1 FROM model_versions v WHERE v.job_id = j.id)""",
    "I3 versions of jobs that did not succeed": """
        SELECT count(*) FROM model_versions v JOIN jobs j ON j.id = v.job_id
        WHERE j.state <> 'succeeded'""",
    "I3 gaps in version numbers": """
        SELECT count(*) FROM models m WHERE m.last_version <>
        (SELECT count(*) FROM model_versions v WHERE v.model_id = m.id)""",
    "I3 succeeded ingest jobs without a version of their dataset": """
        SELECT count(*) FROM jobs j JOIN datasets d ON d.id = j.dataset_id
        WHERE j.kind = 'ingest' AND j.state = 'succeeded'
        AND NOT EXISTS (SELECT 1 FROM dataset_versions v WHERE v.job_id = j.id)""",
    "I3 gaps in dataset version numbers": """
        SELECT count(*) FROM datasets d WHERE d.last_version <>
        (SELECT count(*) FROM dataset_versions v WHERE v.dataset_id = d.id)""",
    "I3 succeeded forecast jobs without a forecast": """
        SELECT count(*) FROM jobs j JOIN dataset_versions v
        ON v.id = j.dataset_version_id
        WHERE j.kind = 'forecast' AND j.state = 'succeeded'
        AND NOT EXISTS (SELECT 1 FROM forecasts f WHERE f.job_id = j.id)""",
    "I3 forecasts of jobs that did not succeed": """
        SELECT count(*) FROM forecasts f JOIN jobs j ON j.id = f.job_id
        WHERE j.state <> 'succeeded'""",
    "I4 cancelled jobs that succeeded without being tried again": """
        SELECT count(*) FROM jobs j WHERE j.state = 'succeeded'
        AND j.desired = 'cancel'""",
}
