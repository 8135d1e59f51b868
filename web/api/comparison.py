"""`/groups/{key}/comparison` of the API: the jobs of a submission side by side."""

from typing import Any

from pydantic import BaseModel, Field

from shared.pages import cut_page
from web.api.blueprint import blueprint
from web.api.schemas import GroupPath, PageQuery, Text
from web.installation import get_database
from web.jobs.comparison import load_comparison
from web.jobs.submit import MAX_JOBS


class ComparisonQuery(PageQuery):
    """In which order, and which page."""

    page_size: int = Field(
        default=50, ge=1, le=MAX_JOBS, description="Rows a page: all, if you like."
    )
    sort: Text = Field(
        default="",
        description="A setting that differs or a measure, with - before it for the "
        "largest first. Defaults to the best first.",
    )


class ComparedJob(BaseModel):
    """One job of a submission."""

    job: int
    title: str
    settings: dict[str, Any] = Field(description="Those in which the jobs differ.")
    state: str
    best: bool = Field(
        description="The highest validation accuracy of those on its dataset that have "
        "a result."
    )
    val_accuracy: float | None = Field(description="The best of any epoch so far.")
    test_accuracy: float | None = Field(description="Of what it published.")
    log_loss: float | None = Field(description="Of what it published, test split.")
    epochs: int
    steps: int
    seconds: float = Field(description="On workers, over all attempts.")
    published: str | None = Field(description="name:version, when it succeeded.")
    size_bytes: int | None = Field(description="Of the SavedModel archive.")


class ComparisonOut(BaseModel):
    """One page of the jobs of a submission."""

    group_key: str
    settings: list[str] = Field(description="In which the jobs differ.")
    items: list[ComparedJob]
    total: int
    page: int
    page_size: int


@blueprint.get("/groups/<group_key>/comparison", responses={"200": ComparisonOut})
def compare_group(path: GroupPath, query: ComparisonQuery) -> dict[str, Any]:
    """Lists the jobs of a submission with how they differ and what came of each."""
    with get_database().reading() as session:
        found = load_comparison(session, path.group_key)
    part = cut_page(found.sort(query.sort), query.page, query.page_size)
    return {
        "group_key": path.group_key,
        "settings": found.settings,
        "items": [found.as_json(row) for row in part.items],
        "total": part.total,
        "page": part.page,
        "page_size": part.page_size,
    }
