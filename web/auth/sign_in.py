"""Sign-in: Flask-Security over our users, with our pages and a limit on guessing."""

from typing import Any, cast
from urllib.parse import parse_qs

from flask import Flask, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import current_user
from flask_security.core import Security
from flask_security.mail_util import EmailValidateException, MailUtil
from flask_security.signals import user_authenticated

from shared import audit_store
from web.auth.datastore import Account, AccountDatastore
from web.auth.names import normalise_email
from web.installation import get_database, get_installation

MIN_PASSWORD_CHARACTERS = 10
# Guessing is slowed per address and, over all addresses, per account.
LIMIT_PER_ADDRESS = "10 per minute; 100 per hour"
LIMIT_PER_ACCOUNT = "10 per 5 minutes; 50 per hour"

# Two libraries write the address of a socket in two ways.
# Source: kombu's `transport.redis`, and the `limits` documentation on storages.
KOMBU_SOCKET, LIMITS_SOCKET = "redis+socket://", "redis+unix://"


class LocalNames(MailUtil):
    """Accepts names such as `admin@localhost`: no mail is ever sent."""

    def normalize(self, email: str) -> str:
        """Returns the name as it is stored; raises the library's own error."""
        try:
            return normalise_email(email)
        except ValueError as error:
            raise EmailValidateException(str(error)) from error

    def validate(self, email: str) -> str:
        """The same: there is no address to deliver to."""
        return self.normalize(email)


def register(app: Flask) -> None:
    """Adds sign-in and sign-out to `app`, rate-limited and audited."""
    for name, value in _configuration().items():
        app.config.setdefault(name, value)
    Security(app, AccountDatastore(), mail_util_cls=LocalNames)
    _limit_sign_in(app)
    user_authenticated.connect(_record_sign_in, app)


def _configuration() -> dict[str, Any]:
    return {
        "SECURITY_LOGIN_URL": "/sign-in",
        "SECURITY_LOGOUT_URL": "/sign-out",
        "SECURITY_POST_LOGIN_VIEW": "/",
        "SECURITY_POST_LOGOUT_VIEW": "/sign-in",
        "SECURITY_LOGIN_USER_TEMPLATE": "auth/sign_in.html",
        "SECURITY_PASSWORD_HASH": "argon2",
        "SECURITY_PASSWORD_SCHEMES": ["argon2"],
        # Plain argon2: a lost secret key must not lose every password with it.
        "SECURITY_PASSWORD_SINGLE_HASH": {"argon2"},
        "SECURITY_PASSWORD_LENGTH_MIN": MIN_PASSWORD_CHARACTERS,
        "SECURITY_PASSWORD_NORMALIZE_FORM": "NFKC",
        "SECURITY_RETURN_GENERIC_RESPONSES": True,
        "SECURITY_MSG_GENERIC_AUTHN_FAILED": (
            "This name and password do not belong together.",
            "error",
        ),
        "SECURITY_MSG_UNAUTHENTICATED": ("Please sign in.", "info"),
        "SECURITY_MSG_LOGIN": ("Please sign in.", "info"),
        "SECURITY_FLASH_MESSAGES": False,
        "SECURITY_SEND_REGISTER_EMAIL": False,
        "SECURITY_API_ENABLED_METHODS": ["session"],
        # The library's own bearer tokens are off: ours can be named and revoked.
        "SECURITY_TOKEN_AUTHENTICATION_KEY": None,
        "SECURITY_TOKEN_AUTHENTICATION_HEADER": "X-Unused-Authentication-Token",
        "SECURITY_DEFAULT_REMEMBER_ME": False,
        "REMEMBER_COOKIE_HTTPONLY": True,
        "REMEMBER_COOKIE_SAMESITE": "Lax",
    }


def name_storage(redis_url: str | None) -> str | None:
    """Returns the address of the limits' storage, which `limits` writes otherwise.

    Args:
        redis_url: In kombu's form.
    """
    if redis_url is None or not redis_url.startswith(KOMBU_SOCKET):
        return redis_url
    path, _, query = redis_url.removeprefix(KOMBU_SOCKET).partition("?")
    database = parse_qs(query).get("virtual_host", ["0"])[0]
    return f"{LIMITS_SOCKET}{path}?db={database}"


def _limit_sign_in(app: Flask) -> None:
    app.config["REMEMBER_COOKIE_SECURE"] = app.config["SESSION_COOKIE_SECURE"]
    with app.app_context():
        settings = get_installation().settings
        storage = name_storage(settings.redis_url and settings.broker_address)
    limiter = Limiter(
        get_remote_address,
        app=app,
        storage_uri=storage or "memory://",
        # The broker may be away; then each process counts by itself.
        in_memory_fallback_enabled=bool(storage),
        key_prefix="trainyard-limits",
        headers_enabled=False,
    )
    by_account = limiter.limit(
        LIMIT_PER_ACCOUNT, key_func=_account_named, methods=["POST"]
    )
    by_address = limiter.limit(LIMIT_PER_ADDRESS, methods=["POST"])
    limited: Any = by_address(by_account(app.view_functions["security.login"]))
    app.view_functions["security.login"] = limited
    app.extensions["trainyard_limiter"] = limiter


def _account_named() -> str:
    return "account:" + request.form.get("email", "").strip().lower()[:200]


def _record_sign_in(app: Flask, user: Account, **_: Any) -> None:
    del app
    with get_database().transaction() as session:
        audit_store.record(session, user.actor, "signed_in", "user", str(user.id), None)


def current_account() -> Account:
    """Returns the signed-in user of this request."""
    return cast("Account", current_user._get_current_object())  # noqa: SLF001
