"""Uploads of those who are signed in: the protocol with a session and a form token."""

from flask import Blueprint, Response, jsonify, url_for
from flask_security.decorators import auth_required

from web.auth.sign_in import current_account
from web.installation import get_installation
from web.uploads import protocol

blueprint = Blueprint("uploads", __name__, url_prefix="/uploads")


@blueprint.before_request
@auth_required("session")
def _require_sign_in() -> None:
    """Every request here is for people who are signed in."""


@blueprint.after_request
def _dress(answer: Response) -> Response:
    return protocol.dress(answer)


@blueprint.route("", methods=["OPTIONS"], provide_automatic_options=False)
def options() -> Response:
    """What the server can do."""
    return protocol.describe_server(get_installation())


@blueprint.get("")
def index() -> Response:
    """The user's uploads that are not part of a dataset yet."""
    return jsonify(items=protocol.list_open(get_installation(), current_account()))


@blueprint.post("")
def create() -> Response:
    """Makes an upload."""
    upload = protocol.create(get_installation(), current_account())
    return protocol.answer_created(upload, url_for(".show", upload_id=upload.id))


@blueprint.get("/<upload_id>")
def show(upload_id: str) -> Response:
    """How far an upload is."""
    return protocol.show(get_installation(), current_account(), upload_id)


@blueprint.patch("/<upload_id>")
def append(upload_id: str) -> Response:
    """Takes a piece."""
    return protocol.append(get_installation(), current_account(), upload_id)


@blueprint.delete("/<upload_id>")
def terminate(upload_id: str) -> Response:
    """Removes an upload."""
    return protocol.terminate(get_installation(), current_account(), upload_id)


@blueprint.post("/<upload_id>")
def override(upload_id: str) -> Response:
    """Takes a piece from a client that can only POST."""
    return protocol.override(get_installation(), current_account(), upload_id)
