"""Pages of notifications: one's receivers, and what was sent to one of them."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_security.decorators import auth_required
from werkzeug.wrappers import Response as AnyResponse

from shared.errors import UserError
from shared.notifications import mail
from shared.notifications.event_store import Channel
from web.auth.sign_in import current_account
from web.error_pages import status_of
from web.installation import get_database, get_installation
from web.notifications import receivers
from web.notifications.view import list_deliveries, list_receivers, make_receiver
from web.paging import Pager, asked_page

blueprint = Blueprint("notifications", __name__, url_prefix="/notifications")

PAGE_SIZE = 50


@blueprint.before_request
@auth_required("session")
def _require_sign_in() -> None:
    """Every page here is for people who are signed in."""


@blueprint.get("")
def index() -> str:
    """One's receivers, and the forms that add one."""
    return _show()


@blueprint.post("")
def add() -> AnyResponse | tuple[str, int]:
    """Adds a receiver."""
    channel = request.form.get("channel", "")
    try:
        receiver = receivers.add(
            get_installation(), current_account(),
            channel=channel,
            address=request.form.get("address", ""),
            kinds=request.form.getlist("kinds"),
            everyones=bool(request.form.get("everyones")),
        )  # fmt: skip
    except UserError as error:
        return _show(problem=error), status_of(error)
    flash("From now on it is told.", "success")
    return redirect(url_for("notifications.show", receiver_id=receiver.id))


@blueprint.get("/<int:receiver_id>")
def show(receiver_id: int) -> str:
    """What was sent to one receiver, with the answers."""
    here, account = get_installation(), current_account()
    with get_database().reading() as session:
        receiver = receivers.find(session, account, receiver_id)
        found = list_deliveries(session, receiver_id, asked_page(), PAGE_SIZE)
    return render_template(
        "notifications/show.html",
        receiver=make_receiver(receiver, account),
        secret=receivers.tell_secret(here, receiver),
        deliveries=found.items,
        pager=Pager(found.page, PAGE_SIZE, found.total),
    )


@blueprint.post("/<int:receiver_id>/test")
def send_test(receiver_id: int) -> AnyResponse:
    """Sends a test to one receiver."""
    receivers.test(get_installation(), current_account(), receiver_id)
    flash("A test is on its way. Load this page again to see the answer.", "success")
    return redirect(url_for("notifications.show", receiver_id=receiver_id))


@blueprint.post("/<int:receiver_id>/remove")
def remove(receiver_id: int) -> AnyResponse:
    """Removes a receiver."""
    receivers.remove(get_installation(), current_account(), receiver_id)
    flash("Nothing is sent there any more.", "success")
    return redirect(url_for("notifications.index"))


@blueprint.post("/deliveries/<int:delivery_id>/again")
def send_again(delivery_id: int) -> AnyResponse:
    """Sends something once more."""
    receiver_id = receivers.send_again(
        get_installation(), current_account(), delivery_id
    )
    flash("It is on its way again.", "success")
    return redirect(url_for("notifications.show", receiver_id=receiver_id))


def _show(problem: UserError | None = None) -> str:
    here, account = get_installation(), current_account()
    with here.database.reading() as session:
        rows = list_receivers(session, account)
    sends_mail = bool(here.settings.smtp_host and here.settings.mail_from)
    return render_template(
        "notifications/index.html",
        rows=rows,
        kinds=receivers.KINDS,
        mail_kinds=next((r.kinds for r in rows if r.channel == Channel.EMAIL), None),
        sends_mail=sends_mail and mail.can_receive(account.email),
        problem=problem,
        asked=request.form,
    )
