"""The section on forecasts of a dataset's page: its state, its parts, its record."""

from typing import Any

from sqlalchemy.orm import Session

from shared import forecast_store, training_promise_store
from shared.forecast_base_models import DEFAULT
from shared.forecast_tables import Forecast, TrainingPromise
from shared.job_status import JobStatus
from shared.job_submit_store import FIRST_PRIORITY
from shared.tables import DatasetVersion
from web.bokeh_assets import BOKEH_VERSION
from web.datasets.forecast_bases import list_left_out, make_base_models, tell_winner
from web.datasets.forecast_choices import count_compared, list_offered
from web.datasets.forecast_curve import make_curve
from web.datasets.forecast_difficulty import make_difficulty, name_thumbnails
from web.datasets.forecast_presets import make_presets, name_worker
from web.datasets.forecast_view import ForecastState
from web.installation import Installation
from web.jobs.hold import tell_hold
from web.jobs.view import JobRow, make_row
from web.promises.view import PromiseRow, make_promise
from web.ranges import dig


def make_state(
    session: Session, here: Installation, state: ForecastState
) -> dict[str, Any]:
    """Returns the part of the section that changes while a job is at it."""
    job = state.job
    return {
        "version": state.version.version if state.version else None,
        "job": make_row(job) if job else None,
        "live": state.live,
        "hold": tell_hold(session, job) if job else None,
        "goes_first": job is not None and job.priority >= FIRST_PRIORITY,
        "failed": job is not None
        and job.state in {JobStatus.FAILED, JobStatus.CANCELLED},
        "exists": state.forecast is not None,
        "created_at": state.forecast.created_at if state.forecast else None,
        "automatic": here.settings.forecast_on_add,
        "always": DEFAULT,
        "offered": list_offered(session),
        "most_named": here.settings.forecast_base_models - 1,
    }


def make_section(
    session: Session, here: Installation, state: ForecastState, jobs: list[JobRow]
) -> dict[str, Any]:
    """Returns the values of the section of a dataset's page.

    Args:
        session: Any session.
        here: The installation.
        state: Of the version that the page shows.
        jobs: The trainings that the page lists.
    """
    version, forecast = _find_shown(session, state)
    summary = forecast.summary if forecast else {}
    thumbnails = _list_thumbnails(here, forecast, summary)
    base_models = make_base_models(summary)
    shown = make_state(session, here, state)
    return {
        **shown,
        "shown_version": version.version if version else None,
        "shown_job": forecast.job_id if forecast else None,
        "base_model": dig(summary, "base_model"),
        "difficulty": make_difficulty(summary, thumbnails),
        "doubts": _read_words(summary, "doubts"),
        "promised": make_presets(summary),
        "timed_on": name_worker(summary),
        "curve": make_curve(summary),
        "base_models": base_models,
        "winner": tell_winner(base_models),
        "compared": count_compared(shown["offered"], summary).sentence,
        "left_out": list_left_out(summary),
        "findings": _read_total(summary),
        "delivered": _list_promises(session, jobs),
        "bokeh_version": BOKEH_VERSION,
    }


def _find_shown(
    session: Session, state: ForecastState
) -> tuple[DatasetVersion | None, Forecast | None]:
    """Returns the forecast to show: of the version itself, else of one before it."""
    if state.version is None or state.forecast is not None:
        return state.version, state.forecast
    earlier = forecast_store.find_before(
        session, state.version.dataset_id, state.version.version
    )
    return earlier or (state.version, None)


def _list_thumbnails(
    here: Installation, forecast: Forecast | None, summary: dict[str, Any]
) -> set[str]:
    if forecast is None:
        return set()
    folder = here.storage.resolve(forecast.rel_path) / "thumbnails"
    return {name for name in name_thumbnails(summary) if (folder / name).is_file()}


def _read_words(summary: dict[str, Any], name: str) -> str | None:
    words = dig(summary, name)
    return words if isinstance(words, str) else None


def _read_total(summary: dict[str, Any]) -> int | None:
    total = dig(summary, "findings", "total")
    return total if isinstance(total, int) else None


def _list_promises(
    session: Session, jobs: list[JobRow]
) -> list[tuple[JobRow, PromiseRow]]:
    found = training_promise_store.list_of_jobs(session, [job.id for job in jobs])
    pairs: list[tuple[JobRow, TrainingPromise]] = [
        (job, found[job.id]) for job in jobs if job.id in found
    ]
    return [(job, make_promise(promise)) for job, promise in pairs]
