"""Choosing a password: checked, hashed with argon2, stored; other sessions end."""

from flask import session as flask_session
from flask_security.proxies import _security
from flask_security.utils import hash_password, login_user
from flask_security.utils import password_length_validator as check_length

from shared.errors import UserError
from web.auth.datastore import Account


def make_hash(password: str, again: str) -> str:
    """Returns the argon2 hash of a new password.

    Raises:
        UserError: When the two differ, or it is too short or too long.
    """
    if password != again:
        raise UserError("The two passwords differ.", field="again")
    problems = check_length(password)
    if problems:
        raise UserError(" ".join(problems), field="password")
    return hash_password(_security.password_util.normalize(password))


def require_right(account: Account, password: str) -> None:
    """Passes the account's present password; raises `UserError` for any other."""
    normal = _security.password_util.normalize(password)
    if not account.verify_and_update_password(normal):
        raise UserError("The current password is not right.", field="current")


def begin_session(account: Account) -> None:
    """Signs `account` in on this browser, in a session of its own."""
    flask_session.clear()  # nothing of whoever sat here before
    login_user(account, authn_via=["password"])
