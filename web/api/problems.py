"""The API's refusals as the OpenAPI document describes them (RFC 9457)."""

from typing import Any

from flask import Response
from pydantic import BaseModel, Field, ValidationError

from web.error_pages import TITLES, problem


class Problem(BaseModel):
    """A problem document."""

    type: str = Field(default="about:blank", description="What kind of problem it is.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="One sentence: what is wrong, and the fix.")
    instance: str = Field(description="The path that was asked.")
    field: str | None = Field(default=None, description="The field at fault.")


def describe(*statuses: int) -> dict[str, Any]:
    """Returns the entries of an operation's responses for these statuses."""
    return {
        str(status): {
            "description": TITLES[status],
            "content": {
                "application/problem+json": {
                    "schema": {"$ref": "#/components/schemas/Problem"}
                }
            },
        }
        for status in statuses
    }


def refuse_invalid_request(error: ValidationError) -> Response:
    """Answers a request that the schema does not admit, naming each bad field."""
    sentences = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        sentences.append(f"`{place}`: {message}." if place else f"{message}.")
    first = error.errors()[0]["loc"]
    return problem(
        422,
        TITLES[422],
        " ".join(sentences),
        field=".".join(str(part) for part in first) or None,
    )
