"""`/workers` of the API."""

from typing import Any

from web.api.blueprint import blueprint
from web.api.schemas import WorkerList
from web.installation import get_database
from web.workers.view import list_rows


@blueprint.get("/workers", responses={"200": WorkerList})
def list_workers() -> dict[str, Any]:
    """Lists the workers, those not heard of lately among them."""
    with get_database().reading() as session:
        rows = list_rows(session)
    items = [vars(row) for row in rows]
    return WorkerList.model_validate({"items": items}).model_dump(mode="json")
