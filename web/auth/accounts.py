"""One's own account: the link that opens it, its password, its API tokens."""

from flask import (
    Blueprint,
    flash,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_security.decorators import auth_required
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from shared import audit_store, user_store
from shared.errors import NotFoundError, UserError
from shared.tables import SignInLink
from web.auth import passwords
from web.auth.datastore import Account, make_account
from web.auth.names import require_email
from web.auth.sign_in import MIN_PASSWORD_CHARACTERS, current_account
from web.installation import get_database

blueprint = Blueprint("accounts", __name__)

MAX_TOKEN_NAME_CHARACTERS = 60


@blueprint.route("/links/<token>", methods=["GET", "POST"])
def link(token: str) -> str | tuple[str, int] | Response:
    """Shows what a one-time link opens; the POST uses it up.

    Looking at it does not use it up, so that a mail program's preview cannot.
    """
    found = _open_link(token)
    if request.method == "GET":
        return _show_link(found)
    try:
        account = _use_link(token, found)
    except UserError as error:
        return _show_link(found, problem=str(error)), 400
    passwords.begin_session(account)
    return redirect(url_for("home.index"))


@blueprint.get("/account")
@auth_required("session")
def show() -> str:
    """Shows password and tokens of the signed-in user."""
    return _show_account()


@blueprint.post("/account/password")
@auth_required("session")
def change_password() -> Response:
    """Changes one's password after the present one was given."""
    account = current_account()
    try:
        passwords.require_right(account, request.form.get("current", ""))
        new_hash = passwords.make_hash(
            request.form.get("password", ""), request.form.get("again", "")
        )
    except UserError as error:
        flash(str(error), "error")
        return redirect(url_for("accounts.show"))

    def write(session: Session) -> Account:
        user = user_store.change_password(session, account.id, new_hash)
        audit_store.record(
            session, account.actor, "password_changed", "user", account.id
        )
        return make_account(user)

    passwords.begin_session(get_database().tx(write))
    flash("Your password is changed; other sessions have ended.", "success")
    return redirect(url_for("accounts.show"))


@blueprint.post("/account/tokens")
@auth_required("session")
def create_token() -> str:
    """Makes an API token; its text is in this one answer and nowhere else."""
    account = current_account()
    name = " ".join(request.form.get("name", "").split())
    if not 0 < len(name) <= MAX_TOKEN_NAME_CHARACTERS:
        raise UserError(
            f"The name of a token has 1 to {MAX_TOKEN_NAME_CHARACTERS} characters.",
            field="name",
        )

    def write(session: Session) -> str:
        raw = user_store.create_token(session, account.id, name)
        audit_store.record(
            session, account.actor, "token_created", "user", account.id, {"name": name}
        )
        return raw

    return _show_account(new_token=get_database().tx(write), new_token_name=name)


@blueprint.post("/account/tokens/<int:token_id>/revoke")
@auth_required("session")
def revoke_token(token_id: int) -> Response:
    """Revokes one of one's own tokens."""
    account = current_account()

    def write(session: Session) -> None:
        user_store.revoke_token(session, token_id, user_id=account.id)
        audit_store.record(
            session, account.actor, "token_revoked", "user", account.id,
            {"token_id": token_id},
        )  # fmt: skip

    get_database().tx(write)
    flash("The token no longer works.", "success")
    return redirect(url_for("accounts.show"))


def _show_account(**new: str) -> str:
    with get_database().reading() as session:
        tokens = user_store.list_tokens(session, current_account().id)
    return render_template(
        "auth/account.html",
        tokens=tokens,
        min_characters=MIN_PASSWORD_CHARACTERS,
        **new,
    )


def _open_link(token: str) -> SignInLink:
    with get_database().reading() as session:
        found = user_store.find_link(session, token)
    if found is None:
        raise NotFoundError(
            "This link was used already, is too old, or was replaced by a newer one. "
            "Ask an admin for another; on the server, `trainyard up` prints one."
        )
    return found


def _use_link(token: str, found: SignInLink) -> Account:
    email = found.email or require_email(request.form.get("email", ""))
    new_hash = passwords.make_hash(
        request.form.get("password", ""), request.form.get("again", "")
    )

    def write(session: Session) -> Account:
        user = user_store.use_link(session, token, email=email, password_hash=new_hash)
        audit_store.record(
            session, f"user:{user.id}", "link_used", "user", user.id,
            {"purpose": found.purpose},
        )  # fmt: skip
        return make_account(user)

    return get_database().tx(write)


def _show_link(found: SignInLink, problem: str | None = None) -> str:
    return render_template(
        "auth/link.html", link=found, problem=problem,
        email=found.email or request.form.get("email", ""),
        fixed_email=found.email is not None,
        min_characters=MIN_PASSWORD_CHARACTERS,
    )  # fmt: skip
