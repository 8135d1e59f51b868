"""Flask-Security's view of our users: a thin adapter over `shared/user_store.py`.

The library brings password checking, session handling and their known traps; the
tables stay plain. Users are read in a short transaction and carried as plain values.
"""

from dataclasses import dataclass, field
from typing import Any

from flask_security.core import RoleMixin, UserMixin
from flask_security.datastore import UserDatastore

from shared import user_store
from shared.tables import User
from web.installation import get_database

ADMIN = "admin"
MEMBER = "member"
ROLES = (MEMBER, ADMIN)


@dataclass(frozen=True)
class Role(RoleMixin):
    """A role by name; `admin` may act on everything."""

    name: str

    def get_permissions(self) -> set[str]:
        """No finer permissions exist."""
        return set()


@dataclass(eq=False, kw_only=True)
class Account(UserMixin):
    """A user as the web sees one during a request."""

    id: int
    email: str
    password: str | None  # the hash
    active: bool
    fs_uniquifier: str = ""  # the key of the user's sessions
    role: str
    roles: list[RoleMixin] = field(default_factory=list)

    @property
    def is_admin(self) -> bool:
        """Whether this user may act on everything."""
        return self.role == ADMIN

    @property
    def actor(self) -> str:
        """The name under which the audit records what this user did."""
        return f"user:{self.id}"


def make_account(user: User) -> Account:
    """Copies the row of a user out of its session."""
    return Account(
        id=user.id,
        email=user.email,
        password=user.password_hash,
        active=user.active,
        fs_uniquifier=user.session_key,
        role=user.role,
        roles=[Role(user.role)],
    )


class AccountDatastore(UserDatastore):
    """Looks users up by id, email or session key; stores changed hashes."""

    def __init__(self) -> None:
        super().__init__(Account, Role)

    def find_user(
        self,
        case_insensitive: bool = False,  # noqa: ARG002, FBT001, FBT002 - library's
        **kwargs: Any,
    ) -> Account | None:
        """Returns the one user matching the given attribute, or None."""
        with get_database().reading() as session:
            user = _find(session, **kwargs)
            return make_account(user) if user else None

    def find_role(self, role: str) -> Role | None:
        """Returns the role called so, or None."""
        return Role(role) if role in ROLES else None

    def put(self, model: Any) -> Any:
        """Stores the hash of an account, when the library has renewed it."""
        if model.password:
            with get_database().transaction() as session:
                user_store.set_password_hash(session, model.id, model.password)
        return model

    def commit(self) -> None:
        """Nothing to do: `put` commits."""


def _find(session: Any, **kwargs: Any) -> User | None:
    if "fs_uniquifier" in kwargs:
        return user_store.find_user_by_session_key(session, kwargs["fs_uniquifier"])
    if "email" in kwargs:
        return user_store.find_user_by_email(session, kwargs["email"])
    return user_store.find_user(session, int(kwargs["id"]))
