"""Polled answers: the same bytes are answered with 304 and an empty body."""

from typing import Any

from flask import Response, jsonify, render_template, request


def fragment(template: str, **values: Any) -> Response:
    """Renders a part of a page; 304 when the client has it already."""
    return conditional(Response(render_template(template, **values)))


def data(value: Any) -> Response:
    """Answers `value` as JSON; 304 when the client has it already."""
    return conditional(jsonify(value))


def conditional(response: Response) -> Response:
    """Gives `response` an ETag of its body and honours If-None-Match."""
    response.add_etag()
    response.headers["Cache-Control"] = "private, no-cache"
    response.vary.add("Cookie")
    return response.make_conditional(request)  # type: ignore[return-value]
