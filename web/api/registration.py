"""Puts the API into the app, with its description at `/api/v1/openapi.json`."""

from flask import Flask, Response, current_app, jsonify
from flask_openapi3.openapi import OpenAPI
from flask_wtf import CSRFProtect

from web.api import (
    audit,
    catalog,
    comparison,
    datasets,
    forecasts,
    jobs,
    models,
    notifications,
    queue,
    uploads,
    versions,
    workers,
)
from web.api.blueprint import blueprint
from web.api.problems import Problem
from web.api.upload_schemas import SourceIn

# Imported for their routes.
FEATURES = (
    audit,
    catalog,
    comparison,
    datasets,
    forecasts,
    jobs,
    models,
    notifications,
    queue,
    uploads,
    versions,
    workers,
)


@blueprint.get("/openapi.json", doc_ui=False)
def openapi() -> Response:
    """This description of the API."""
    return jsonify(current_app.api_doc)  # type: ignore[attr-defined]


def register(app: Flask, csrf: CSRFProtect) -> None:
    """Registers every route; cookies play no part, so form tokens do not either."""
    assert isinstance(app, OpenAPI)
    csrf.exempt(blueprint)
    for model in (Problem, SourceIn):
        app.components_schemas[model.__name__] = model.model_json_schema()
    app.register_api(blueprint)
