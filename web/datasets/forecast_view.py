"""What pages and API show of a dataset's forecast, and asking for one."""

import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from shared import dataset_store, forecast_store, job_read_store, queue
from shared.artifacts import Storage
from shared.base_models import get_base_model
from shared.errors import ConflictError, NotFoundError, UserError
from shared.forecast_store import Asked
from shared.forecast_tables import Forecast
from shared.job_status import TERMINAL, JobKind
from shared.presets import build_training_spec
from shared.tables import DatasetVersion, Job
from web.auth.datastore import Account
from web.installation import Installation

_THUMBNAIL = re.compile(r"[0-9a-f]{64}\.jpg")


@dataclass(frozen=True)
class ForecastState:
    """How it stands with the forecast of one dataset version.

    Args:
        version: The version; None while the dataset has none.
        forecast: The newest one; None before the first.
        job: The newest job that makes or made one, with its owner, dataset and model;
            None when nobody asked or it was deleted.
    """

    version: DatasetVersion | None
    forecast: Forecast | None = None
    job: Job | None = None

    @property
    def live(self) -> bool:
        """Whether a job is at it."""
        return self.job is not None and self.job.state not in TERMINAL

    def require(self) -> Forecast:
        """Returns the forecast.

        Raises:
            NotFoundError: When there is none, saying how it stands.
        """
        if self.forecast is None:
            raise NotFoundError(tell_missing(self))
        return self.forecast


def find_state(
    session: Session, dataset_id: int, version: int | None = None
) -> ForecastState:
    """Returns how it stands with the forecast of a dataset version.

    Args:
        session: Any session.
        dataset_id: The dataset.
        version: Number of the version. Defaults to the newest.

    Raises:
        NotFoundError: When there is no such dataset, or no such version of it.
    """
    dataset = dataset_store.get_dataset(session, dataset_id)
    if version is None:
        row = dataset_store.latest_version(session, dataset_id)
    else:
        row = dataset_store.find_version(session, dataset_id, version)
        if row is None:
            raise NotFoundError(
                f"Dataset {dataset.name!r} has no version {version}.", field="version"
            )
    if row is None:
        return ForecastState(None)
    job = forecast_store.find_job(session, dataset_id, row.id)
    return ForecastState(
        row,
        forecast_store.find_newest(session, row.id),
        job_read_store.get_job(session, job.id) if job else None,
    )


def tell_missing(state: ForecastState) -> str:
    """Says why there is no forecast, and what to do."""
    if state.version is None:
        return "This dataset has no version yet, so there is nothing to forecast."
    number = state.version.version
    if state.job is None:
        return f"Version {number} has not been forecast. Ask for a forecast of it."
    if state.live:
        return (
            f"The forecast of version {number} is {state.job.state} (job "
            f"{state.job.id}). Look again when that has ended."
        )
    return (
        f"The forecast of version {number} {state.job.state} (job {state.job.id}): "
        f"{state.job.reason or 'no reason was recorded'} Ask for it again."
    )


def ask(
    here: Installation,
    account: Account,
    dataset_id: int,
    version: int | None = None,
    *,
    again: bool = False,
    base_models: list[str] | None = None,
) -> Asked:
    """Has a dataset version forecast, unless it is, or somebody is at it.

    Like training, it is for everybody who may sign in.

    Args:
        here: The installation.
        account: Whose job it becomes.
        dataset_id: The dataset.
        version: Number of the version. Defaults to the newest.
        again: Also where there is a forecast.
        base_models: Names to compare, beside the default one. Defaults to those that
            its worker has.

    Raises:
        ConflictError: While the dataset has no version, or a job is at it that
            compares other base models.
        NotFoundError: When there is no such dataset or version.
        UserError: For a base model that does not exist, or for too many.
    """
    _refuse_base_models(base_models or [], here.settings.forecast_base_models)

    def write(session: Session) -> Asked:
        state = find_state(session, dataset_id, version)
        if state.version is None:
            raise ConflictError(tell_missing(state))
        return forecast_store.ask(
            session,
            state.version.id,
            owner_id=account.id,
            again=again,
            base_models=base_models,
            most=here.settings.forecast_base_models,
        )

    asked = here.database.tx(write)
    if asked.created:
        queue.ring(JobKind.FORECAST)
    return asked


def _refuse_base_models(names: list[str], most: int) -> None:
    for name in names:
        get_base_model(name)
    default = build_training_spec().base_model
    others = set(names) - {default}
    if len(others) >= most:
        raise UserError(
            f"`base_models` may name {most - 1} beside {default}, which is always "
            f"compared; TRAINYARD_FORECAST_BASE_MODELS decides. Received: "
            f"{len(others)}: {', '.join(sorted(others))}.",
            field="base_models",
        )


def get_by_job(session: Session, dataset_id: int, job_id: int) -> Forecast:
    """Returns the forecast of a dataset that this job has made.

    Raises:
        NotFoundError: When it has made none of it.
    """
    forecast = forecast_store.find_by_job(session, dataset_id, job_id)
    if forecast is None:
        raise NotFoundError(f"Job {job_id} has made no forecast of this dataset.")
    return forecast


def find_thumbnail(storage: Storage, forecast: Forecast | None, name: str) -> Path:
    """Returns the file of a small picture that a forecast shows.

    Raises:
        NotFoundError: When `name` is no thumbnail's name, or there is none.
    """
    if forecast is not None and _THUMBNAIL.fullmatch(name):
        path = storage.resolve(forecast.rel_path) / "thumbnails" / name
        if path.is_file():
            return path
    raise NotFoundError("There is no such thumbnail.")
