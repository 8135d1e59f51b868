"""Forecasts, findings and promises in the API."""

from dataclasses import asdict
from typing import Any

from flask import Response, abort, request, send_file, url_for
from pydantic import ValidationError
from sqlalchemy.orm import Session

from shared import finding_decision_store, forecast_store, training_promise_store
from shared.artifacts import Storage
from shared.forecast_tables import Forecast
from shared.tables import DatasetVersion
from shared.training_promise_store import Kept
from web.api.blueprint import IdempotencyHeader, blueprint, current_account
from web.api.forecast_schemas import (
    FindingDecisions,
    FindingList,
    FindingsDecided,
    FindingsQuery,
    ForecastOut,
    ForecastRequest,
    PromiseList,
    PromiseOut,
    ThumbnailPath,
    VersionQuery,
)
from web.api.jobs import describe
from web.api.problems import describe_body, refuse_invalid_request
from web.api.schemas import DatasetPath, PageQuery
from web.api.version_schemas import PICTURE
from web.datasets import findings, forecast_choices, forecast_view
from web.datasets.finding_choices import Wishes, decide_findings
from web.datasets.finding_plan import Choice
from web.datasets.findings import Finding, Wanted
from web.datasets.forecast_view import ForecastState
from web.datasets.report import list_thumbnails
from web.installation import get_database, get_installation


@blueprint.get("/datasets/<int:dataset_id>/forecast", responses={"200": ForecastOut})
def get_forecast(path: DatasetPath, query: VersionQuery) -> dict[str, Any]:
    """The newest forecast of a dataset version, and the job that makes it."""
    with get_database().reading() as session:
        state = forecast_view.find_state(session, path.dataset_id, query.version)
        if state.job is None:
            state.require()
        return _describe(session, path.dataset_id, state)


@blueprint.post(
    "/datasets/<int:dataset_id>/forecast",
    responses={"202": ForecastOut, "200": ForecastOut},
    openapi_extensions=describe_body(ForecastRequest),
)
def ask_forecast(path: DatasetPath) -> tuple[dict[str, Any], int]:
    """Has a dataset version forecast, unless it is, or a job is at it."""
    wish = _read_wish()
    here = get_installation()
    asked = forecast_view.ask(
        here, current_account(), path.dataset_id, wish.version, again=wish.again,
        base_models=wish.base_models,
    )  # fmt: skip
    with here.database.reading() as session:
        state = forecast_view.find_state(session, path.dataset_id, wish.version)
        answer = _describe(session, path.dataset_id, state)
    return {**answer, "created": asked.created}, 202 if asked.created else 200


@blueprint.get("/datasets/<int:dataset_id>/findings", responses={"200": FindingList})
def list_findings(path: DatasetPath, query: FindingsQuery) -> dict[str, Any]:
    """Lists what the doctor found in a dataset version, the worst of a kind first."""
    here = get_installation()
    with here.database.reading() as session:
        state = forecast_view.find_state(session, path.dataset_id, query.version)
        forecast, version = state.require(), state.version
        accepted = finding_decision_store.list_accepted(session, path.dataset_id)
    found = findings.read_page(
        here.storage,
        forecast,
        accepted,
        Wanted(query.kind, query.accepted, query.page, query.page_size),
    )
    assert version is not None  # it has a forecast
    return {
        "dataset_id": path.dataset_id,
        "version": version.version,
        "counts": found.open_counts,
        "items": _describe_findings(
            here.storage, version, forecast.job_id, found.page.items
        ),
        "total": found.page.total,
        "page": found.page.page,
        "page_size": found.page.page_size,
    }


@blueprint.post(
    "/datasets/<int:dataset_id>/findings/decisions",
    responses={"202": FindingsDecided, "200": FindingsDecided},
)
def decide_about_findings(
    path: DatasetPath, header: IdempotencyHeader, body: FindingDecisions
) -> tuple[dict[str, Any], int]:
    """Accepts findings, or has an ingest job make the next version without them."""
    bulk = None
    if body.action is not None:
        bulk = Choice(body.action, body.label, is_bulk=not body.include_test)
    outcome = decide_findings(
        get_installation(),
        current_account(),
        Wishes(
            dataset_id=path.dataset_id,
            version=body.version,
            choices={one.key: Choice(one.action, one.label) for one in body.choices},
            whole_kind=body.kind,
            bulk=bulk,
            keep=body.keep,
            split=body.split.as_spec() if body.split else None,
            key=header.idempotency_key,
        ),
    )
    added = outcome.added
    answer = {
        "accepted": outcome.accepted,
        "passed_over": sum(outcome.passed_over.values()),
        "passed_over_because": outcome.passed_over,
        "left_in_test": outcome.left_in_test,
        "left": outcome.left,
        "clusters": outcome.clusters.count() if outcome.clusters else None,
        "notes": outcome.notes,
        "images": outcome.images,
        "job_id": added.job_id if added else None,
    }
    return answer, 202 if added and added.created else 200


@blueprint.get(
    "/datasets/<int:dataset_id>/forecasts/<int:job_id>/thumbnails/<name>",
    responses={"200": PICTURE},
)
def get_forecast_thumbnail(path: ThumbnailPath) -> Response:
    """A small picture that findings or confusions of a forecast show."""
    here = get_installation()
    with here.database.reading() as session:
        forecast = forecast_store.find_by_job(session, path.dataset_id, path.job_id)
    file = forecast_view.find_thumbnail(here.storage, forecast, path.name)
    return send_file(file, mimetype="image/jpeg")


@blueprint.get("/promises", responses={"200": PromiseList})
def list_promises(query: PageQuery) -> dict[str, Any]:
    """Lists what was promised of trainings and what they delivered, newest first."""
    with get_database().reading() as session:
        record = training_promise_store.measure(session)
        found = training_promise_store.list_promises(
            session, page=query.page, page_size=query.page_size
        )
        items = [
            {name: getattr(row, name) for name in PromiseOut.model_fields}
            for row in found.items
        ]
    minutes = _as_kept(record.seconds)
    if minutes:
        minutes["median_error"] /= 60
    return {
        "accuracy": _as_kept(record.accuracy),
        "minutes": minutes,
        "items": items,
        "total": found.total,
        "page": found.page,
        "page_size": found.page_size,
    }


def _read_wish() -> ForecastRequest:
    if not request.data:
        return ForecastRequest()
    try:
        return ForecastRequest.model_validate(request.get_json(silent=True))
    except ValidationError as error:
        abort(refuse_invalid_request(error))


def _describe(
    session: Session, dataset_id: int, state: ForecastState
) -> dict[str, Any]:
    return {
        "dataset_id": dataset_id,
        "version": state.version.version if state.version else 0,
        "job": describe(session, state.job) if state.job else None,
        "created": False,
        "created_at": state.forecast.created_at if state.forecast else None,
        "forecast": state.forecast.summary if state.forecast else None,
        "compared": _describe_compared(session, state.forecast),
    }


def _describe_compared(
    session: Session, forecast: Forecast | None
) -> dict[str, Any] | None:
    if forecast is None:
        return None
    offered = forecast_choices.list_offered(session)
    return asdict(forecast_choices.count_compared(offered, forecast.summary))


def _describe_findings(
    storage: Storage, version: DatasetVersion, job_id: int, items: list[Finding]
) -> list[dict[str, Any]]:
    """Gives each picture the address of its small copy, as pages do.

    It is with the forecast, else with the version itself: training sees none of what
    is in quarantine.
    """
    listed = [asdict(finding) for finding in items]
    pictures = [picture for values in listed for picture in values["pictures"]]
    lacking = {f"{one['sha256']}.jpg" for one in pictures if not one["thumbnail"]}
    own = list_thumbnails(storage, version, lacking)
    for picture in pictures:
        name = f"{picture['sha256']}.jpg"
        if picture["thumbnail"]:
            picture["thumbnail"] = url_for(
                "api.get_forecast_thumbnail", dataset_id=version.dataset_id,
                job_id=job_id, name=name,
            )  # fmt: skip
        elif name in own:
            picture["thumbnail"] = url_for(
                "api.get_version_thumbnail", dataset_id=version.dataset_id,
                version=version.version, name=name,
            )  # fmt: skip
    return listed


def _as_kept(kept: Kept | None) -> dict[str, Any] | None:
    return asdict(kept) if kept else None
