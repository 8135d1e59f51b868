"""The API's refusals as the OpenAPI document describes them (RFC 9457)."""

import re
from typing import Any

from flask import Response
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, Field, ValidationError

from web.error_pages import TITLES, problem

ARCHIVE = {
    "description": "The bytes of a zip.",
    "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
}
NOT_MODIFIED = {"description": "The client has these very bytes already."}
NOT_AN_OBJECT = frozenset({"model_type", "json_invalid", "dict_type"})


_TYPE_TRIED = re.compile(r"int|str|constrained-\w+|function-.*")


class Problem(BaseModel):
    """A problem document."""

    type: str = Field(default="about:blank", description="What kind of problem it is.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="One sentence: what is wrong, and the fix.")
    instance: str = Field(description="The path that was asked.")
    field: str | None = Field(default=None, description="The field at fault.")


def describe(*statuses: int) -> ResponseDict:
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


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """Returns the description of a JSON body that may be left out."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": False, "content": content}}


def refuse_invalid_request(error: ValidationError) -> Response:
    """Answers a request that the schema does not admit, naming each bad field."""
    found = list_faults(error)
    sentences = " ".join(sentence for _, sentence in found)
    return problem(422, TITLES[422], sentences, field=found[0][0] or None)


def list_faults(error: ValidationError) -> list[tuple[str, str]]:
    """Returns each field that the schema does not admit, with a sentence."""
    faults = []
    for item in error.errors():
        place = _place(item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if not item["loc"] and item["type"] in NOT_AN_OBJECT:
            sentence = "Send a JSON object, as application/json."
        else:
            sentence = f"`{place}`: {message}." if place else f"{message}."
        faults.append((place, sentence))
    return faults


def _place(location: tuple[int | str, ...]) -> str:
    """Names the field; of a field with two types pydantic also names the type tried."""
    parts = [str(part) for part in location]
    return ".".join(p for p in parts if not _TYPE_TRIED.fullmatch(p))
