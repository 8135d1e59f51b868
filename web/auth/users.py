"""Users, for admins: inviting, resetting, changing roles, disabling."""

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

from shared import audit_store, user_limit_store, user_store
from shared.errors import ConflictError, UserError
from shared.user_limit_store import UserLimits
from web.auth.datastore import ROLES
from web.auth.names import require_email
from web.auth.sign_in import current_account
from web.error_pages import status_of
from web.installation import get_database, get_installation
from web.paging import cut_page
from web.permissions import admins_only

blueprint = Blueprint("users", __name__, url_prefix="/users")

LINK_DAYS = 7
PAGE_SIZE = 50
MAX_DIGITS = 9


@blueprint.before_request
@auth_required("session")
@admins_only
def _require_admin() -> None:
    """Every page here is for admins."""


@blueprint.get("")
def index() -> str:
    """Lists everybody."""
    return _show_users()


@blueprint.post("/invite")
def invite() -> str:
    """Makes an invitation link for a new user."""
    email = require_email(request.form.get("email", ""))
    role = request.form.get("role", "")
    if role not in ROLES:
        raise UserError(f"A role is one of {', '.join(ROLES)}.", field="role")

    def write(session: Session) -> str:
        if user_store.find_user_by_email(session, email):
            raise ConflictError(
                f"{email} is a user already. Use its password link.", field="email"
            )
        raw = user_store.create_link(
            session, purpose="invite", email=email, role=role,
            ttl_seconds=LINK_DAYS * 86400,
        )  # fmt: skip
        audit_store.record(
            session, current_account().actor, "user_invited", "user", email,
            {"role": role},
        )  # fmt: skip
        return raw

    return _hand_over(get_database().tx(write), f"Hand this link to {email}.")


@blueprint.post("/<int:user_id>/reset")
def reset(user_id: int) -> str:
    """Makes a link on which a user chooses a new password."""

    def write(session: Session) -> tuple[str, str]:
        user = user_store.get_user(session, user_id)
        raw = user_store.create_link(
            session, purpose="reset", user_id=user.id, email=user.email,
            ttl_seconds=LINK_DAYS * 86400,
        )  # fmt: skip
        audit_store.record(
            session, current_account().actor, "reset_link_made", "user", user.id
        )
        return raw, user.email

    raw, email = get_database().tx(write)
    return _hand_over(raw, f"Hand this link to {email} to choose a new password.")


@blueprint.post("/<int:user_id>/role")
def change_role(user_id: int) -> Response:
    """Makes a member an admin, or the other way round."""
    role = request.form.get("role", "")
    if role not in ROLES:
        raise UserError(f"A role is one of {', '.join(ROLES)}.", field="role")
    _refuse_self(user_id)

    def write(session: Session) -> None:
        user_store.set_role(session, user_id, role)
        audit_store.record(
            session, current_account().actor, "role_changed", "user", user_id,
            {"role": role},
        )  # fmt: skip

    get_database().tx(write)
    flash(f"The role is {role} now.", "success")
    return redirect(url_for("users.index"))


@blueprint.post("/<int:user_id>/active")
def set_active(user_id: int) -> Response:
    """Disables a user, whose sessions and tokens stop working, or enables one."""
    active = bool(request.form.get("active"))
    _refuse_self(user_id)

    def write(session: Session) -> None:
        user_store.set_active(session, user_id, active=active)
        event = "user_enabled" if active else "user_disabled"
        audit_store.record(session, current_account().actor, event, "user", user_id)

    get_database().tx(write)
    flash("The user may sign in." if active else "The user is shut out.", "success")
    return redirect(url_for("users.index"))


@blueprint.route("/<int:user_id>/limits", methods=["GET", "POST"])
def limits(user_id: int) -> str | tuple[str, int] | Response:
    """Shows and changes how much a user may have running and waiting."""
    problem = None
    if request.method == "POST":
        try:
            _set_limits(user_id)
        except UserError as error:
            problem = error
        else:
            flash("The limits are changed.", "success")
            return redirect(url_for("users.index"))
    with get_database().reading() as session:
        user = user_store.get_user(session, user_id)
    settings = get_installation().settings
    page = render_template(
        "auth/limits.html",
        user=user,
        usual_running=settings.max_running_per_user,
        usual_waiting=settings.max_waiting_per_user,
        problem=problem,
    )
    return page if problem is None else (page, status_of(problem))


def _set_limits(user_id: int) -> None:
    wanted = UserLimits(_read_limit("running"), _read_limit("waiting"))
    get_database().tx(
        lambda session: user_limit_store.set_limits(
            session, user_id, wanted, actor=current_account().actor
        )
    )


def _read_limit(name: str) -> int | None:
    text = request.form.get(name, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > MAX_DIGITS:
        raise UserError(
            f"`{name}` must be a whole number, or empty. Received: {text[:40]!r}.",
            field=name,
        )
    return int(text)


def _refuse_self(user_id: int) -> None:
    # Otherwise the last admin could shut everybody out.
    if user_id == current_account().id:
        raise UserError("You cannot change your own role or state.")


def _hand_over(raw_token: str, words: str) -> str:
    # In this one answer and nowhere else: whoever has the link has the account.
    path = url_for("accounts.link", token=raw_token)
    base = get_installation().settings.public_url or request.host_url
    return _show_users(new_link=base.rstrip("/") + path, new_link_words=words)


def _show_users(**new: str) -> str:
    with get_database().reading() as session:
        users = user_store.list_users(session)
    part, pager = cut_page(users, PAGE_SIZE, endpoint="users.index")
    return render_template(
        "auth/users.html",
        users=part,
        pager=pager,
        link_days=LINK_DAYS,
        **new,
    )
