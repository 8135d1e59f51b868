"""What was promised of trainings before they ran, beside what they delivered.

A promise is made once, when a training is submitted, and never changed: a forecast that
comes later, or a better one, promises nothing of it.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shared.database import now_ms
from shared.forecast_store import find_newest, read_preset
from shared.forecast_tables import Forecast, TrainingPromise
from shared.pages import Page, read_page
from shared.presets import is_plain
from shared.sql_dialect import in_parts, insert
from shared.tables import Attempt, Dataset, Job

LOOKED_BACK = 1000  # delivered promises that their quality is told from


@dataclass(frozen=True)
class Range:
    """A promise of one number: it is expected at `middle`, and from `low` to `high`."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Kept:
    """How well promises of one number were kept.

    Args:
        count: Trainings that delivered.
        covered: The share of them that ended within the promised range, 0 to 1.
        median_error: Half of them were no further than this from the middle of it, in
            the unit of the promise.
    """

    count: int
    covered: float
    median_error: float


@dataclass(frozen=True)
class Record:
    """How well promises were kept: accuracies are shares, times are seconds."""

    accuracy: Kept | None
    seconds: Kept | None


@dataclass(frozen=True)
class Elsewhere:
    """What a training took on another worker than its promise was timed on.

    Args:
        seconds: That it ran.
        timed_on: Name of the worker that was timed; None where that is not known.
    """

    seconds: float
    timed_on: str | None


def make(session: Session, job_ids: Sequence[int]) -> int:
    """Promises what the newest forecasts say of trainings just submitted.

    Nothing is promised of a training whose settings are not those of its preset, or
    whose dataset version has no forecast.

    Returns:
        How many promises were made.
    """
    forecasts: dict[int | None, Forecast | None] = {}
    made = 0
    for some in in_parts(job_ids):
        rows = session.execute(
            select(Job.id, Job.spec, Job.dataset_version_id, Dataset.name)
            .join(Dataset, Dataset.id == Job.dataset_id)
            .where(Job.id.in_(some), Job.dataset_version_id.is_not(None))
        )
        promises = []
        for job_id, spec, version_id, name in rows.all():
            if version_id not in forecasts:
                forecasts[version_id] = find_newest(session, version_id or 0)
            preset, forecast = spec.get("preset", ""), forecasts[version_id]
            if forecast is not None and is_plain(preset, spec["training"]):
                promises += _list_promised(job_id, name, preset, forecast)
        made += _insert(session, promises)
    return made


def tell_seconds(fence: int, running_ms: int) -> float | None:
    """Returns what a training took; None where that was not one run of it.

    Minutes are promised of a training that runs once from its start on one worker. One
    that goes on from a checkpoint, perhaps on another machine, or is tried again with
    its clock set back, took something else.

    Args:
        fence: Of its last attempt.
        running_ms: As its row has it.
    """
    return running_ms / 1000 if fence == 1 else None


def read_timer(worker: Any) -> int | None:
    """Returns the worker on which a forecast has timed its seconds, by its `worker`."""
    return worker.get("id") if isinstance(worker, dict) else None


def deliver(
    session: Session,
    job_id: int,
    *,
    fence: int,
    running_ms: int,
    accuracy: float | None,
) -> None:
    """Notes what a training delivered, where something had been promised of it.

    Seconds are promised of the worker that made the forecast: what another one took is
    no fault of the promise, and is left out. For the transaction that publishes its
    model version.

    Args:
        session: The writing session.
        job_id: The training.
        fence: Of the attempt that ends it.
        running_ms: As its row has it.
        accuracy: On its test split, 0 to 1; None when it was not measured.
    """
    seconds = tell_seconds(fence, running_ms)
    if not _ran_where_timed(session, job_id, fence):
        seconds = None
    session.execute(
        update(TrainingPromise)
        .where(TrainingPromise.job_id == job_id, TrainingPromise.delivered_at.is_(None))
        .values(
            delivered_accuracy=accuracy,
            delivered_seconds=seconds,
            delivered_at=now_ms(),
        )
        .execution_options(synchronize_session=False)
    )


def find_promise(session: Session, job_id: int) -> TrainingPromise | None:
    """Returns what was promised of a training, or None."""
    return session.get(TrainingPromise, job_id)


def find_elsewhere(session: Session, job_id: int) -> Elsewhere | None:
    """Returns what a training took that ran where its promise was not timed, or None.

    None, too, before it has delivered and where that took several attempts.
    """
    row = session.execute(
        select(
            Job.fence,
            Job.running_ms,
            Forecast.summary["worker"].label("worker"),
        )
        .join(TrainingPromise, TrainingPromise.job_id == Job.id)
        .outerjoin(Forecast, Forecast.id == TrainingPromise.forecast_id)
        .where(
            Job.id == job_id,
            TrainingPromise.delivered_at.is_not(None),
            TrainingPromise.delivered_seconds.is_(None),
        )
    ).one_or_none()
    seconds = tell_seconds(row.fence, row.running_ms) if row else None
    if row is None or seconds is None:
        return None
    name = row.worker.get("name") if isinstance(row.worker, dict) else None
    return Elsewhere(seconds, name if read_timer(row.worker) is not None else None)


def list_promises(
    session: Session, *, page: int = 1, page_size: int = 50
) -> Page[TrainingPromise]:
    """Returns one page of promises, the newest first."""
    query = select(TrainingPromise).order_by(
        TrainingPromise.made_at.desc(), TrainingPromise.job_id.desc()
    )
    return read_page(session, query, page, page_size)


def list_of_jobs(
    session: Session, job_ids: Sequence[int]
) -> dict[int, TrainingPromise]:
    """Returns what was promised of these trainings, by job, where something was."""
    promises: dict[int, TrainingPromise] = {}
    for some in in_parts(job_ids):
        rows = session.scalars(
            select(TrainingPromise).where(TrainingPromise.job_id.in_(some))
        )
        promises |= {row.job_id: row for row in rows}
    return promises


def list_delivered(session: Session) -> list[TrainingPromise]:
    """Returns the last `LOOKED_BACK` promises that are due, the newest first."""
    return list(
        session.scalars(
            select(TrainingPromise)
            .where(TrainingPromise.delivered_at.is_not(None))
            .order_by(TrainingPromise.made_at.desc(), TrainingPromise.job_id.desc())
            .limit(LOOKED_BACK)
        )
    )


def measure(session: Session) -> Record:
    """Returns how well the last `LOOKED_BACK` promises were kept that are due."""
    rows = list_delivered(session)
    return Record(
        accuracy=_measure(
            (row.accuracy_low, row.accuracy, row.accuracy_high, row.delivered_accuracy)
            for row in rows
        ),
        seconds=_measure(
            (row.seconds_low, row.seconds, row.seconds_high, row.delivered_seconds)
            for row in rows
        ),
    )


def _ran_where_timed(session: Session, job_id: int, fence: int) -> bool:
    row = session.execute(
        select(Attempt.worker_id, Forecast.summary["worker"].label("worker"))
        .join(TrainingPromise, TrainingPromise.job_id == Attempt.job_id)
        .join(Forecast, Forecast.id == TrainingPromise.forecast_id)
        .where(Attempt.job_id == job_id, Attempt.fence == fence)
    ).one_or_none()
    timer = read_timer(row.worker) if row else None
    return row is not None and timer is not None and row.worker_id == timer


def _list_promised(
    job_id: int, dataset_name: str, preset: str, forecast: Forecast
) -> list[dict[str, Any]]:
    promised = read_preset(forecast, preset) or {}
    accuracy, seconds = map(
        _read_range, (promised.get("accuracy"), promised.get("seconds"))
    )
    if accuracy is None:
        return []
    return [
        {
            "job_id": job_id,
            "forecast_id": forecast.id,
            "dataset_name": dataset_name,
            "preset": preset,
            "accuracy_low": accuracy.low,
            "accuracy": accuracy.middle,
            "accuracy_high": accuracy.high,
            "seconds_low": seconds.low if seconds else None,
            "seconds": seconds.middle if seconds else None,
            "seconds_high": seconds.high if seconds else None,
            "made_at": now_ms(),
        }
    ]


def _read_range(values: Any) -> Range | None:
    """Returns [low, middle, high] of a forecast; None where nobody could tell."""
    try:
        low, middle, high = map(float, values)
    except (TypeError, ValueError):
        return None
    return Range(low, middle, high) if math.isfinite(low + middle + high) else None


def _insert(session: Session, promises: list[dict[str, Any]]) -> int:
    if not promises:
        return 0
    kept = session.execute(
        insert(session, TrainingPromise)
        .values(promises)
        .on_conflict_do_nothing(index_elements=["job_id"])
        .returning(TrainingPromise.job_id)
    )
    return len(kept.all())


def _measure(rows: Any) -> Kept | None:
    """Measures rows of (low, middle, high, delivered); those that lack one are left."""
    whole = [row for row in rows if None not in row]
    if not whole:
        return None
    covered = sum(low <= delivered <= high for low, _, high, delivered in whole)
    errors = [abs(delivered - middle) for _, middle, _, delivered in whole]
    return Kept(len(whole), covered / len(whole), statistics.median(errors))
