"""Who may do what: everyone signed in sees all; owners and admins change things."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol

from shared.errors import UserError
from web.auth.datastore import Account
from web.auth.sign_in import current_account


class NotAllowedError(UserError):
    """This user may not do this (403)."""


class Owned(Protocol):
    """Anything with an owner: datasets, jobs, models."""

    @property
    def owner_id(self) -> Any:
        """The user's number."""
        ...


def may_change(account: Account, thing: Owned) -> bool:
    """Whether `account` owns `thing` or is an admin."""
    return account.is_admin or account.id == thing.owner_id


def require_change(account: Account, thing: Owned, what: str) -> None:
    """Passes owners and admins; raises `NotAllowedError` naming `what` for others."""
    if not may_change(account, thing):
        raise NotAllowedError(
            f"Only its owner or an admin may change this {what}. Ask one of them, or "
            f"make your own."
        )


def require_admin(account: Account) -> None:
    """Passes admins; raises `NotAllowedError` for others."""
    if not account.is_admin:
        raise NotAllowedError("Only an admin may do this.")


def admins_only(view: Callable[..., Any]) -> Callable[..., Any]:
    """Refuses the page to everyone but admins."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        require_admin(current_account())
        return view(*args, **kwargs)

    return guarded
