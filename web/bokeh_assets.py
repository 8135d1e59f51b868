"""Serves BokehJS from the installed package: no address outside this server."""

from importlib import metadata

from flask import Blueprint, Response, send_from_directory

blueprint = Blueprint("bokeh_assets", __name__)

BOKEH_VERSION = metadata.version("bokeh")
# Found without importing the package, which takes a second.
FOLDER = metadata.distribution("bokeh").locate_file("bokeh/server/static/js")
YEAR_SECONDS = 365 * 24 * 3600


@blueprint.get("/assets/bokeh/<version>/bokeh.min.js")
def script(version: str) -> Response:
    """Sends BokehJS; the version in the address makes it safe to keep for ever."""
    del version
    response = send_from_directory(str(FOLDER), "bokeh.min.js", max_age=YEAR_SECONDS)
    response.cache_control.immutable = True
    return response
