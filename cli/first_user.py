"""What a new installation needs before anybody can come in: a key, an admin, a token.

Doing it again changes nothing that works: each part is made when it is missing.
"""

import os
import secrets
from pathlib import Path

from sqlalchemy.orm import Session

from cli.api_client import local_token_path
from shared import audit_store, user_store
from shared.database import Database
from shared.errors import ConflictError, NotFoundError
from shared.settings import Settings
from shared.tables import User

ADMIN = "admin@localhost"
LINK_TTL_SECONDS = 24 * 3600.0
TOKEN_NAME = "local"  # noqa: S105 - its name, not its text
PRIVATE_FILE = 0o600
ACTOR = "local"


def prepare(database: Database, settings: Settings) -> tuple[str, str]:
    """Leaves a signing key, an admin and a token; returns token and way in.

    Returns:
        The local token, and the path of a one-time link while the admin has no
        password yet, else of the sign-in page.
    """
    _write_secret_key(settings)
    path = local_token_path(settings)
    known = path.read_text().strip() if path.exists() else ""

    def write(session: Session) -> tuple[str, str]:
        admin = _find_admin(session)
        token = known
        owner = user_store.find_user_by_token(session, known) if known else None
        if owner is None or owner.role != "admin":
            token = user_store.create_token(session, admin.id, TOKEN_NAME)
        if admin.password_hash is not None:
            return token, "/sign-in"
        raw = user_store.create_link(
            session,
            purpose="first",
            user_id=admin.id,
            email=admin.email,
            role="admin",
            ttl_seconds=LINK_TTL_SECONDS,
        )
        return token, f"/links/{raw}"

    token, way_in = database.tx(write)
    if token != known:
        _write_private(path, token)
    return token, way_in


def make_link(database: Database, *, email: str, role: str | None) -> str:
    """Returns the path of a link for a new user (`role`), or to reset a password.

    Raises:
        NotFoundError: When the user to reset does not exist.
        ConflictError: When the user to invite exists already.
    """

    def write(session: Session) -> str:
        user = user_store.find_user_by_email(session, email)
        _refuse_mismatch(user, email, role)
        raw = user_store.create_link(
            session,
            purpose="reset" if role is None else "invite",
            user_id=user.id if user else None,
            email=email,
            role=role,
        )
        event = "reset_link_made" if role is None else "user_invited"
        audit_store.record(session, ACTOR, event, "user", email)
        return raw

    return f"/links/{database.tx(write)}"


def make_token(database: Database, *, email: str | None, name: str) -> str:
    """Returns the text of a new API token of a user; None means the first admin.

    Raises:
        NotFoundError: When there is no such user.
    """

    def write(session: Session) -> str:
        if email is None:
            user = _find_admin(session)
        else:
            user = user_store.find_user_by_email(session, email)
        if user is None:
            raise NotFoundError(f"There is no user {email}.", field="user")
        token = user_store.create_token(session, user.id, name)
        audit_store.record(
            session, ACTOR, "token_created", "user", user.id, {"name": name}
        )
        return token

    return database.tx(write)


def _refuse_mismatch(user: User | None, email: str, role: str | None) -> None:
    if role is None and user is None:
        raise NotFoundError(
            f"There is no user {email}: `trainyard invite {email}` lets them in.",
            field="email",
        )
    if role is not None and user is not None:
        raise ConflictError(
            f"{email} is a user already: `trainyard user link {email}` makes a link to "
            "choose a new password.",
            field="email",
        )


def _find_admin(session: Session) -> User:
    """Returns the admin of this machine, made now in a new installation."""
    admins = [
        user
        for user in user_store.list_users(session)
        if user.role == "admin" and user.active
    ]
    if not admins:
        return user_store.create_user(session, email=ADMIN, role="admin")
    return min(admins, key=lambda user: user.id)


def _write_secret_key(settings: Settings) -> None:
    if settings.secret_key:
        return
    path = settings.secret_key_file or settings.data_dir / "secret_key"
    if not path.exists():
        _write_private(path, secrets.token_hex(32))


def _write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
