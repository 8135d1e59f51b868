"""The blueprint of the API: every route needs a bearer token, none a cookie.

Because no cookie is looked at, no other site can make a browser act here, and so the
routes need no form token.
"""

import hashlib
import threading
import time

from flask import g, request
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from werkzeug.exceptions import Unauthorized

from shared import user_store
from web.api.problems import describe
from web.auth.datastore import Account, make_account
from web.installation import get_database

MAX_KEY_CHARACTERS = 200
NOTE_SECONDS = 60
OPEN_ENDPOINTS = frozenset({"api.openapi"})

blueprint = APIBlueprint(
    "api",
    __name__,
    url_prefix="/api/v1",
    abp_security=[{"bearer": []}],
    abp_responses=describe(400, 401, 403, 404, 409, 422),
)


class IdempotencyHeader(BaseModel):
    """The key that makes a repeated request harmless."""

    idempotency_key: str | None = Field(
        default=None,
        alias="Idempotency-Key",
        max_length=MAX_KEY_CHARACTERS,
        min_length=1,
        description="The same key and body make nothing a second time.",
    )


@blueprint.before_request
def require_token() -> None:
    """Finds the user whose bearer token came; refuses the request without one."""
    if request.endpoint in OPEN_ENDPOINTS:
        return
    scheme, _, raw = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not raw.strip():
        raise Unauthorized("Send an API token: `Authorization: Bearer ...`.")
    g.account = _find_account(raw.strip())


def current_account() -> Account:
    """Returns the user whose token this request carries."""
    return g.account


def _find_account(raw: str) -> Account:
    database = get_database()
    with database.reading() as session:
        user = user_store.find_user_by_token(session, raw)
    if user is None:
        raise Unauthorized("This API token is not known, or was revoked.")
    if _used.should_note(raw):

        def write(session: Session) -> None:
            user_store.touch_token(session, raw)

        database.tx(write)
    return make_account(user)


class _LastUses:
    """When this process last noted each token's use: reading must not mean writing."""

    def __init__(self) -> None:
        self._noted: dict[str, float] = {}
        self._lock = threading.Lock()

    def should_note(self, raw: str) -> bool:
        digest = hashlib.sha256(raw.encode()).hexdigest()
        now = time.monotonic()
        with self._lock:
            if now - self._noted.get(digest, float("-inf")) < NOTE_SECONDS:
                return False
            self._noted[digest] = now
            return True


_used = _LastUses()
