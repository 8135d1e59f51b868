"""The page of all promises made of trainings, and its charts."""

from flask import Blueprint, Response, jsonify, render_template
from flask_security.decorators import auth_required

from web.bokeh_assets import BOKEH_VERSION
from web.installation import get_database
from web.promises import view

blueprint = Blueprint("promises", __name__, url_prefix="/promises")


@blueprint.before_request
@auth_required("session")
def _require_sign_in() -> None:
    """Every page here is for people who are signed in."""


@blueprint.get("")
def index() -> str:
    """What forecasts promised of trainings, and what came."""
    with get_database().reading() as session:
        values = view.make_page(session)
    return render_template(
        "promises/index.html", bokeh_version=BOKEH_VERSION, **values
    )  # fmt: skip


@blueprint.get("/accuracy.json")
def accuracy_chart() -> Response:
    """The chart of promised and delivered accuracy, with its columns."""
    # Bokeh takes a second to import; most requests never need it.
    from web.promises.charts import build_accuracy_chart  # noqa: PLC0415

    return jsonify({"chart": build_accuracy_chart(), "columns": _read_columns()})


@blueprint.get("/minutes.json")
def minutes_chart() -> Response:
    """The chart of promised and taken minutes, with its columns."""
    # Bokeh takes a second to import; most requests never need it.
    from web.promises.charts import build_minutes_chart  # noqa: PLC0415

    return jsonify({"chart": build_minutes_chart(), "columns": _read_columns()})


def _read_columns() -> dict[str, dict[str, list[object]]]:
    with get_database().reading() as session:
        return view.list_columns(session)
