"""`/`: people who are signed in land on their jobs."""

from flask import Blueprint, redirect, url_for
from flask_security.decorators import auth_required
from werkzeug.wrappers import Response

blueprint = Blueprint("home", __name__)


@blueprint.get("/")
@auth_required("session")
def index() -> Response:
    """Leads to the jobs."""
    return redirect(url_for("jobs.index"))
