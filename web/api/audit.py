"""`/audit` of the API, for admins."""

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field

from web.api.blueprint import blueprint, current_account
from web.api.schemas import PageQuery, Text
from web.audit.view import list_lines
from web.installation import get_database
from web.permissions import require_admin


class AuditQuery(PageQuery):
    """Which lines to list."""

    object_type: Text | None = Field(
        default=None,
        description="job, dataset, model, user, worker, queue, group, receiver.",
    )
    object_id: Text | None = Field(default=None, description="Its number or name.")
    actor: Text | None = Field(
        default=None, description="user:<number>, worker:<number>, reconciler, system."
    )


class AuditLine(BaseModel):
    """One line of the audit."""

    id: int
    at: int = Field(description="Milliseconds since 1970.")
    actor: str
    who: str = Field(description="The actor for people: a user by name.")
    event: str
    object_type: str
    object_id: str
    detail: dict[str, Any] | None


class AuditLines(BaseModel):
    """One page of the audit."""

    items: list[AuditLine]
    total: int
    page: int
    page_size: int


@blueprint.get("/audit", responses={"200": AuditLines})
def list_audit(query: AuditQuery) -> dict[str, Any]:
    """Lists who did what to which object, the newest line first; for admins."""
    require_admin(current_account())
    with get_database().reading() as session:
        found = list_lines(session, **query.model_dump())
    return asdict(found)
