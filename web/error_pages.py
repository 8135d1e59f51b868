"""One place where errors become answers: pages for people, problems for the API.

Both are made from the same status and sentence; the API's form is RFC 9457.
"""

import errno
import secrets

import structlog
from flask import Flask, Response, jsonify, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from shared.errors import ConflictError, NotFoundError, RetryableError, UserError
from web.display import size
from web.permissions import NotAllowedError

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK_FULL_SENTENCE = (
    "The server's disk is full, so nothing was kept. Delete datasets, jobs or models "
    "that are no longer needed, then try again."
)
log = structlog.get_logger(__name__)

API_PREFIX = "/api/"
TITLES = {
    400: "That cannot be done",
    401: "Please sign in",
    403: "Not allowed",
    404: "Not found",
    405: "Not that way",
    408: "Too slow",
    409: "Not in this state",
    410: "No longer there",
    411: "Length needed",
    412: "Another version",
    413: "Too large",
    415: "Not that kind of content",
    416: "Range not there",
    422: "Not valid",
    423: "In use",
    429: "Too many tries",
    460: "Damaged on the way",
    500: "Something went wrong here",
    503: "Not available now",
    507: "Disk full",
}
SENTENCES = {
    404: "There is nothing at this address, or it was deleted.",
    405: "This address does not answer that kind of request.",
    429: "Too many tries in a short time. Wait a few minutes, then try again.",
}


def register(app: Flask) -> None:
    """Adds the handlers to `app`."""
    app.register_error_handler(UserError, _answer_user_error)
    app.register_error_handler(RetryableError, _answer_retryable)
    app.register_error_handler(OSError, _answer_os_error)
    app.register_error_handler(CSRFError, _answer_csrf)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_unexpected)


def status_of(error: UserError) -> int:
    """Returns the HTTP status that says what kind of refusal `error` is."""
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, ConflictError):
        return 409
    if isinstance(error, NotAllowedError):
        return 403
    return getattr(error, "status", 400)


def answer(status: int, detail: str, *, field: str | None = None) -> Response:
    """Makes the answer to a failed request: a problem document or a page."""
    title = TITLES.get(status, "That did not work")
    if request.path.startswith(API_PREFIX) or _wants_json():
        return problem(status, title, detail, field=field)
    body = render_template("error.html", status=status, title=title, detail=detail)
    return Response(body, status=status)


def problem(
    status: int, title: str, detail: str, *, field: str | None = None
) -> Response:
    """Makes a problem document (RFC 9457)."""
    content = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.path,
    }
    if field:
        content["field"] = field
    response = jsonify(content)
    response.status_code = status
    response.content_type = "application/problem+json"
    if status == 401:  # noqa: PLR2004 - a status is its own name
        response.headers["WWW-Authenticate"] = 'Bearer realm="trainyard"'
    return response


def _wants_json() -> bool:
    accept = request.accept_mimetypes
    return accept.best_match(["text/html", "application/json"]) == "application/json"


def _answer_user_error(error: UserError) -> Response:
    return answer(status_of(error), str(error), field=error.field)


def _answer_retryable(error: RetryableError) -> Response:
    log.warning("request_retryable", path=request.path, error=str(error))
    response = answer(503, f"{error} Try again in a moment.")
    response.headers["Retry-After"] = "5"
    return response


def _answer_os_error(error: OSError) -> Response:
    if error.errno not in DISK_FULL:
        return _answer_unexpected(error)
    log.error("disk_full", path=request.path, error=str(error))
    return answer(507, DISK_FULL_SENTENCE)


def _answer_csrf(error: CSRFError) -> Response:
    del error
    return answer(
        400,
        "This form is too old, or came from another site. Go back, reload the page "
        "and send it again.",
    )


def _answer_http(error: HTTPException) -> Response:
    if error.response is not None:  # made by the one who raised it
        return error.response  # type: ignore[return-value]
    status = error.code or 500
    sentence = SENTENCES.get(status, error.description or "")
    if isinstance(error, RequestEntityTooLarge):
        most = size(request.max_content_length)
        sentence = f"What was sent is larger than the {most} that are accepted here."
    response = answer(status, sentence)
    for name, value in error.get_headers():
        if name.lower() in {"allow", "retry-after", "content-range"}:
            response.headers[name] = value
    return response


def _answer_unexpected(error: Exception) -> Response:
    reference = secrets.token_hex(4)
    log.error("request_failed", path=request.path, reference=reference, exc_info=error)
    return answer(
        500,
        f"This is a fault in Trainyard, not in what you did. The log has the details "
        f"under reference {reference}.",
    )
