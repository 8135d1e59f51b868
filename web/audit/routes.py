"""The page of the audit, for admins: who did what to which object."""

from flask import Blueprint, render_template, request
from flask_security.decorators import auth_required

from web.audit.view import TYPES, list_lines
from web.installation import get_database
from web.paging import Pager, asked_page
from web.permissions import admins_only

blueprint = Blueprint("audit", __name__, url_prefix="/audit")

PAGE_SIZE = 50


@blueprint.before_request
@auth_required("session")
@admins_only
def _require_admin() -> None:
    """Every page here is for admins."""


@blueprint.get("")
def index() -> str:
    """Lists what was done, the newest first."""
    asked = {name: request.args.get(name) or None for name in ("type", "id", "actor")}
    with get_database().reading() as session:
        found = list_lines(
            session, object_type=asked["type"], object_id=asked["id"],
            actor=asked["actor"], page=asked_page(), page_size=PAGE_SIZE,
        )  # fmt: skip
    return render_template(
        "audit/index.html",
        lines=found.items,
        pager=Pager(found.page, PAGE_SIZE, found.total, "audit.index"),
        asked=asked,
        types=TYPES,
        filtered=any(asked.values()),
    )
