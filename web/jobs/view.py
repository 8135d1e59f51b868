"""What pages show of jobs: rows copied out of the database into plain values."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared import model_store
from shared.job_status import TERMINAL, JobKind, JobStatus
from shared.tables import Attempt, Job
from web.display import shown_state

PAGE_SIZE = 50
FORECAST_PHASES = ["prepare", "timing", "features", "doctor", "forecast", "write"]


@dataclass(frozen=True)
class VersionName:
    """Name and number of a published model version."""

    name: str
    version: int
    bytes: int
    sha: str


@dataclass(frozen=True)
class JobRow:
    """A job as tables and pages show it."""

    id: int
    kind: str
    title: str
    state: str
    shown: str  # the state in words: a running job may be about to stop
    owner_id: int
    owner: str
    group_key: str | None
    dataset: Any
    model_name: str | None
    phase: str | None
    phases: list[str]  # those that a training of this spec, or a forecast, goes through
    done: int
    total: int
    unit: str | None
    eta_seconds: float | None
    accuracy: float | None
    reason: str | None
    waits_ms: float
    attempts: int
    created_at: int
    preemptible: bool
    gives_way_to: int | None  # the job for which it stops now

    @property
    def terminal(self) -> bool:
        """Whether only a retry can move it on."""
        return self.state in TERMINAL

    @property
    def live(self) -> bool:
        """Whether its page should look again by itself."""
        return not self.terminal


def make_row(job: Job) -> JobRow:
    """Copies a job, read with its owner, dataset and model."""
    return JobRow(
        id=job.id,
        kind=job.kind,
        title=job.title,
        state=job.state,
        shown=shown_state(job.state, job.desired, job.gives_way_to),
        owner_id=job.owner_id,
        owner=job.owner.email,
        group_key=job.group_key,
        dataset=job.dataset,
        model_name=job.model.name if job.model else None,
        phase=job.phase,
        phases=_list_phases(job),
        done=job.progress_done,
        total=job.progress_total,
        unit=job.progress_unit,
        eta_seconds=job.eta_seconds,
        accuracy=_accuracy(job),
        reason=job.reason,
        waits_ms=job.not_before - time.time() * 1000,
        attempts=job.attempts,
        created_at=job.created_at,
        preemptible=job.preemptible,
        gives_way_to=job.gives_way_to,
    )


def find_version(session: Session, job: Job) -> VersionName | None:
    """Returns what a job has published, when it has and it was not deleted."""
    return find_versions(session, [job]).get(job.id)


def find_versions(session: Session, jobs: Sequence[Job]) -> dict[int, VersionName]:
    """Returns what each of `jobs` has published, by job, in one query."""
    models = {
        job.id: job.model.name
        for job in jobs
        if job.state == JobStatus.SUCCEEDED and job.model is not None
    }
    found = model_store.find_versions_of_jobs(session, models.keys()) if models else {}
    return {
        job_id: VersionName(
            models[job_id], row.version, row.artifact_bytes, row.artifact_sha
        )
        for job_id, row in found.items()
    }


def make_attempt(attempt: Attempt) -> dict[str, Any]:
    """Copies an attempt, with how long it took so far, in seconds."""
    ended = attempt.ended_at or time.time() * 1000
    return {
        "fence": attempt.fence,
        "host": attempt.host,
        "slot": attempt.slot,
        "outcome": attempt.outcome,
        "oom": attempt.oom,
        "signal": attempt.signal,
        "exit_code": attempt.exit_code,
        "start_step": attempt.start_step,
        "started_at": attempt.started_at,
        "seconds": max(0.0, (ended - attempt.started_at) / 1000),
    }


def _list_phases(job: Job) -> list[str]:
    if job.kind == JobKind.FORECAST:
        return FORECAST_PHASES
    if job.kind != JobKind.TRAIN:
        return []
    spec = (job.spec or {}).get("training") or {}
    epochs = {name: spec.get(f"{name}_epochs", 1) for name in ("frozen", "fine_tune")}
    return [
        "prepare",
        *(name for name, count in epochs.items() if count),
        "evaluate",
        "export",
    ]


def _accuracy(job: Job) -> float | None:
    value = (job.result or {}).get("accuracy")
    return value if isinstance(value, int | float) else None
