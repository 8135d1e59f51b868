"""Users, the one-time links that let them in, and their API tokens.

Secrets are made here and returned once; the records keep their SHA-256 alone, so a
stolen database opens nothing. Passwords arrive hashed.
"""

import hashlib
import secrets
from collections.abc import Collection

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from shared.database import now_ms, read_clock
from shared.errors import ConflictError, NotFoundError
from shared.sql_dialect import insert
from shared.tables import ApiToken, SignInLink, User

TOKEN_PREFIX = "ty_"  # noqa: S105 - lets secret scanners know ours
SECRET_BYTES = 32
LINK_TTL_SECONDS = 7 * 86400
TOUCH_MS = 60_000  # a token's last use is kept to the minute


def create_user(
    session: Session, *, email: str, role: str, password_hash: str | None = None
) -> User:
    """Adds a user; without a password only a one-time link lets them in.

    Raises:
        ConflictError: When there is a user of that address.
    """
    user_id = session.execute(
        insert(session, User)
        .values(
            email=email.strip().lower(),
            role=role,
            password_hash=password_hash,
            active=True,
            session_key=secrets.token_hex(SECRET_BYTES),
            created_at=now_ms(),
        )
        .on_conflict_do_nothing(index_elements=["email"])
        .returning(User.id)
    ).scalar_one_or_none()
    if user_id is None:
        raise ConflictError(f"There is a user {email} already.", field="email")
    return get_user(session, user_id)


def get_user(session: Session, user_id: int) -> User:
    """Returns a user.

    Raises:
        NotFoundError: When there is none.
    """
    user = find_user(session, user_id)
    if user is None:
        raise NotFoundError(f"There is no user {user_id}.")
    return user


def find_user(session: Session, user_id: int) -> User | None:
    """Returns a user by number, or None."""
    return session.get(User, user_id, populate_existing=True)


def find_user_by_email(session: Session, email: str) -> User | None:
    """Returns a user by sign-in name, in whatever case, or None."""
    return session.scalar(select(User).where(User.email == email.strip().lower()))


def list_names(session: Session, user_ids: Collection[int]) -> dict[int, str]:
    """Returns the sign-in names of those of these users that exist, by number."""
    query = select(User.id, User.email).where(User.id.in_(user_ids))
    return dict(session.execute(query).all())


def find_user_by_session_key(session: Session, session_key: str) -> User | None:
    """Returns the user whose sessions carry this key, or None."""
    return session.scalar(select(User).where(User.session_key == session_key))


def list_users(session: Session) -> list[User]:
    """Returns all users by address."""
    return list(session.scalars(select(User).order_by(User.email)))


def find_emails(session: Session, user_ids: Collection[int]) -> dict[int, str]:
    """Returns the sign-in names of these users, by number."""
    found = session.execute(select(User.id, User.email).where(User.id.in_(user_ids)))
    return dict(found.all())


def set_role(session: Session, user_id: int, role: str) -> None:
    """Makes a user `admin` or `member`."""
    _change(session, user_id, role=role)


def set_active(session: Session, user_id: int, *, active: bool) -> None:
    """Lets a user in, or shuts them out: sessions end, tokens stop working."""
    _change(
        session, user_id, active=active, session_key=secrets.token_hex(SECRET_BYTES)
    )


def set_password_hash(session: Session, user_id: int, password_hash: str) -> None:
    """Stores a better hash of the same password; sessions go on."""
    _change(session, user_id, password_hash=password_hash)


def change_password(session: Session, user_id: int, password_hash: str) -> User:
    """Stores a new password's hash; every session of the user ends."""
    _change(
        session,
        user_id,
        password_hash=password_hash,
        session_key=secrets.token_hex(SECRET_BYTES),
    )
    return get_user(session, user_id)


def create_link(
    session: Session,
    *,
    purpose: str,
    user_id: int | None = None,
    email: str | None = None,
    role: str | None = None,
    ttl_seconds: float = LINK_TTL_SECONDS,
) -> str:
    """Makes a one-time link, and withdraws the unused ones that it replaces.

    Args:
        session: The writing session.
        purpose: `first`, `invite` or `reset`.
        user_id: Whom it lets in; None for somebody who is no user yet.
        email: Their address; None lets them choose it.
        role: Of the user to be made.
        ttl_seconds: How long it works.

    Returns:
        The secret part of the link, which is kept nowhere.
    """
    session.execute(
        delete(SignInLink).where(
            SignInLink.purpose == purpose,
            SignInLink.user_id.is_not_distinct_from(user_id),
            SignInLink.email.is_not_distinct_from(email),
            SignInLink.used_at.is_(None),
        )
    )
    raw, now = secrets.token_urlsafe(SECRET_BYTES), read_clock(session)
    session.add(
        SignInLink(
            token_sha256=_digest(raw),
            purpose=purpose,
            user_id=user_id,
            email=email.strip().lower() if email else None,
            role=role,
            created_at=now,
            expires_at=now + int(ttl_seconds * 1000),
        )
    )
    session.flush()
    return raw


def find_link(session: Session, raw: str) -> SignInLink | None:
    """Returns a link that still works, or None; does not use it up."""
    return session.scalar(
        select(SignInLink).where(
            SignInLink.token_sha256 == _digest(raw),
            SignInLink.used_at.is_(None),
            SignInLink.expires_at > now_ms(),
        )
    )


def use_link(session: Session, raw: str, *, email: str, password_hash: str) -> User:
    """Uses a link up, and returns its user, made now if need be, with the password.

    Args:
        session: The writing session.
        raw: The secret part of the link.
        email: The address that the user chose, where the link names none.
        password_hash: Of the password they chose.

    Raises:
        ConflictError: When the chosen address has a user already.
        NotFoundError: When the link was used, is too old or never was.
    """
    digest = _digest(raw)
    link = session.execute(
        update(SignInLink)
        .where(
            SignInLink.token_sha256 == digest,
            SignInLink.used_at.is_(None),
            SignInLink.expires_at > now_ms(),
        )
        .values(used_at=now_ms())
        .returning(SignInLink.user_id, SignInLink.email, SignInLink.role)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if link is None:
        return _find_let_in(session, digest, password_hash)
    if link.user_id is None:
        user = create_user(
            session,
            email=link.email or email,
            role=link.role or "member",
            password_hash=password_hash,
        )
        session.execute(
            update(SignInLink)
            .where(SignInLink.token_sha256 == digest)
            .values(user_id=user.id)
        )
        return user
    if link.email is None:
        _rename(session, link.user_id, email)
    return change_password(session, link.user_id, password_hash)


def create_token(session: Session, user_id: int, name: str) -> str:
    """Makes an API token of a user, and returns its text, which is kept nowhere."""
    raw = TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    session.add(
        ApiToken(
            user_id=user_id,
            name=name,
            token_sha256=_digest(raw),
            created_at=now_ms(),
        )
    )
    session.flush()
    return raw


def list_tokens(session: Session, user_id: int) -> list[ApiToken]:
    """Returns the tokens of a user, newest first."""
    return list(
        session.scalars(
            select(ApiToken)
            .where(ApiToken.user_id == user_id)
            .order_by(ApiToken.id.desc())
        )
    )


def find_user_by_token(session: Session, raw: str) -> User | None:
    """Returns the active user whose token this is, or None."""
    return session.scalar(
        select(User)
        .join(ApiToken, ApiToken.user_id == User.id)
        .where(ApiToken.token_sha256 == _digest(raw), User.active)
    )


def touch_token(session: Session, raw: str) -> None:
    """Notes that a token was used, once a minute at most."""
    session.execute(
        update(ApiToken)
        .where(
            ApiToken.token_sha256 == _digest(raw),
            func.coalesce(ApiToken.last_used_at, 0) < now_ms() - TOUCH_MS,
        )
        .values(last_used_at=now_ms())
        .execution_options(synchronize_session=False)
    )


def revoke_token(session: Session, token_id: int, *, user_id: int) -> None:
    """Removes a token of a user; one that is gone already is fine."""
    session.execute(
        delete(ApiToken).where(ApiToken.id == token_id, ApiToken.user_id == user_id)
    )


def _change(session: Session, user_id: int, **values: object) -> None:
    changed = session.execute(
        update(User)
        .where(User.id == user_id)
        .values(**values)
        .returning(User.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if changed is None:
        raise NotFoundError(f"There is no user {user_id}.")


def _rename(session: Session, user_id: int, email: str) -> None:
    taken = find_user_by_email(session, email)
    if taken is not None and taken.id != user_id:
        raise ConflictError(f"There is a user {email} already.", field="email")
    _change(session, user_id, email=email.strip().lower())


def _find_let_in(session: Session, digest: str, password_hash: str) -> User:
    """Returns the user whom this very use of the link has let in before."""
    if session.info.get("retrying"):
        user = session.scalar(
            select(User)
            .join(SignInLink, SignInLink.user_id == User.id)
            .where(
                SignInLink.token_sha256 == digest, User.password_hash == password_hash
            )
        )
        if user is not None:
            return user
    raise NotFoundError("This link was used already, or is too old.")


def _digest(raw: str) -> str:
    # No salt and no slow hash: the secret has 256 random bits.
    return hashlib.sha256(raw.encode()).hexdigest()
