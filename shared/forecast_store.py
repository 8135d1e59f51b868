"""Forecasts of dataset versions: asking for one, finding what was made."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.dataset_store import get_version
from shared.errors import ConflictError
from shared.forecast_base_models import DEFAULT, list_compared
from shared.forecast_tables import Forecast
from shared.job_status import TERMINAL, JobKind
from shared.job_submit_store import hold_dataset, submit
from shared.sql_dialect import in_parts
from shared.tables import Dataset, DatasetVersion, Job


@dataclass(frozen=True)
class Asked:
    """What answers a wish for a forecast.

    Args:
        job_id: The job that makes it, or has made it; its row may be deleted.
        created: Whether this very wish put it into the queue. Ring after the commit.
    """

    job_id: int
    created: bool


def ask(
    session: Session,
    version_id: int,
    *,
    owner_id: int,
    again: bool = False,
    base_models: list[str] | None = None,
    most: int = 1,
    goes_first: bool = False,
) -> Asked:
    """Has a dataset version forecast, unless it is, or somebody is at it.

    Two who ask at once get one job: the second waits here for the first.

    Args:
        session: The writing session.
        version_id: The row of the dataset version.
        owner_id: Whose job it becomes.
        again: Also where there is a forecast; while a job is at it, that one will do.
        base_models: Names to compare, beside the default one. Defaults to those that
            its worker can. Others than those of the newest forecast are asking again.
        most: How many a worker compares that may choose.
        goes_first: It comes with the version, and goes before all trainings. One that
            somebody asks for takes its turn among them.

    Raises:
        ConflictError: While a job is at it that compares other base models.
        NotFoundError: When there is no such version.
    """
    dataset_id = get_version(session, version_id).dataset_id
    hold_dataset(session, dataset_id, None)  # first, as whoever deletes it does
    session.execute(
        select(DatasetVersion.id)
        .where(DatasetVersion.id == version_id)
        .with_for_update()
    )
    job = find_job(session, dataset_id, version_id)
    if job is not None and job.state not in TERMINAL:
        _refuse_others(session, job, base_models or [], most)
        return Asked(job.id, created=False)
    made = None if again else find_newest(session, version_id)
    if made is not None and _compares(made, base_models):
        return Asked(made.job_id, created=False)
    title = session.scalars(select(Dataset.name).where(Dataset.id == dataset_id)).one()
    return Asked(
        submit(
            session,
            owner_id=owner_id,
            kind=JobKind.FORECAST,
            title=title,
            spec={"base_models": base_models, "asked": {"again": again}},
            # What makes it one job is the row that is held, not its key. A key made
            # from the version could be one that its owner has used for something else.
            idempotency_key=f"forecast-{secrets.token_hex(16)}",
            dataset_id=dataset_id,
            dataset_version_id=version_id,
            goes_first=goes_first,
        ).job_id,
        created=True,
    )


def _refuse_others(
    session: Session, job: Job, base_models: list[str], most: int
) -> None:
    """Refuses names that the job which is at it does not surely compare."""
    if base_models and not set(base_models) <= list_compared(session, job, most):
        asked = job.spec.get("base_models")
        compared = ", ".join(asked) if asked else "those that its worker has"
        raise ConflictError(
            f"Job {job.id} forecasts this version already, with other base models: "
            f"{compared}. Ask again when it has ended, or cancel it first.",
            field="base_models",
        )


def _compares(made: Forecast, base_models: list[str] | None) -> bool:
    """Whether a forecast says something of each of these base models."""
    if base_models is None:
        return True
    lists = (made.summary.get(name) for name in ("base_models", "base_models_left_out"))
    entries = [entry for found in lists for entry in found or []]
    told = {entry.get("name") for entry in entries if isinstance(entry, dict)}
    return set(base_models) <= {*told, DEFAULT}


def find_job(session: Session, dataset_id: int, version_id: int) -> Job | None:
    """Returns the newest forecast job of a dataset version, or None."""
    return session.scalars(
        select(Job)
        .where(
            Job.dataset_id == dataset_id,
            Job.dataset_version_id == version_id,
            Job.kind == JobKind.FORECAST,
        )
        .order_by(Job.id.desc())
        .limit(1)
    ).first()


def find_newest(session: Session, version_id: int) -> Forecast | None:
    """Returns the newest forecast of a dataset version, or None."""
    return session.scalars(
        select(Forecast)
        .where(Forecast.dataset_version_id == version_id)
        .order_by(Forecast.id.desc())
        .limit(1)
    ).first()


def find_before(
    session: Session, dataset_id: int, version: int
) -> tuple[DatasetVersion, Forecast] | None:
    """Returns the newest forecast of the newest version before this one, or None.

    Args:
        session: Any session.
        dataset_id: The dataset.
        version: Number of the version that has none itself.
    """
    found = session.execute(
        select(DatasetVersion, Forecast)
        .join(Forecast, Forecast.dataset_version_id == DatasetVersion.id)
        .where(
            DatasetVersion.dataset_id == dataset_id, DatasetVersion.version < version
        )
        .order_by(DatasetVersion.version.desc(), Forecast.id.desc())
        .limit(1)
    ).first()
    return (found[0], found[1]) if found else None


@dataclass(frozen=True)
class Gist:
    """What a forecast says to whoever is about to submit; values as a worker wrote.

    Args:
        presets: Promises by preset.
        base_model: That the promises are of.
        base_models: The leaderboard.
        winner: The base model that suits best.
        worker: That timed the promised seconds.
    """

    presets: Any
    base_model: Any
    base_models: Any
    winner: Any
    worker: Any


def list_gists(session: Session, version_ids: Sequence[int]) -> dict[int, Gist]:
    """Returns what the newest forecasts promise, by dataset version.

    Versions without a forecast are left out. Only the entries that are wanted are read:
    whole documents of hundreds of datasets are long.
    """
    gists: dict[int, Gist] = {}
    entries = [
        Forecast.summary[name].label(name)
        for name in ("presets", "base_model", "base_models", "winner", "worker")
    ]
    for some in in_parts(version_ids):
        newest = (
            select(func.max(Forecast.id))
            .where(Forecast.dataset_version_id.in_(some))
            .group_by(Forecast.dataset_version_id)
        )
        rows = session.execute(
            select(Forecast.dataset_version_id, *entries).where(Forecast.id.in_(newest))
        )
        for row in rows:
            gists[row.dataset_version_id] = Gist(
                row.presets, row.base_model, row.base_models, row.winner, row.worker
            )
    return gists


def find_by_job(session: Session, dataset_id: int, job_id: int) -> Forecast | None:
    """Returns the forecast of a dataset that this job has made, or None."""
    return session.scalars(
        select(Forecast)
        .join(DatasetVersion, DatasetVersion.id == Forecast.dataset_version_id)
        .where(Forecast.job_id == job_id, DatasetVersion.dataset_id == dataset_id)
    ).one_or_none()


def read_preset(forecast: Forecast, preset: str) -> dict[str, Any] | None:
    """Returns what a forecast promises of a preset, or None."""
    presets = forecast.summary.get("presets")
    promise = presets.get(preset) if isinstance(presets, dict) else None
    return promise if isinstance(promise, dict) else None
