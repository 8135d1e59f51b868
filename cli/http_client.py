"""Requests to the platform's API, with errors as sentences.

A refusal arrives as a problem document and leaves as an error with its sentence. What
can be repeated without harm (reading, and requests with an Idempotency-Key) is repeated
when the server does not answer, as it does not for a moment while it is restarted.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from shared.errors import (
    ConflictError,
    InternalError,
    NotFoundError,
    RetryableError,
    UserError,
)

API = "/api/v1"
TRIES = 6
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 5.0
# Of a piece of an upload: it moved, is held, came damaged, or the server is in trouble.
MAY_BE_SENT_AGAIN = (408, 409, 423, 429, 460, 500, 502, 503, 504)
SERVER_AWAY = (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE)


class RangeNotThereError(UserError):
    """The asked-for part of a file does not exist (416): all of it came already."""


class HttpClient:
    """Speaks to one installation with one token.

    Args:
        url: Its address.
        token: The bearer token.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self.http = httpx.Client(
            base_url=self.url + API,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(60, connect=5),
        )

    def get(self, path: str, **query: Any) -> Any:
        """Returns what lies at `path`, as JSON."""
        wanted = {name: value for name, value in query.items() if value is not None}
        answer = self._repeat(lambda: self.http.get(path, params=wanted))
        return answer.json()

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """Sends `body` to `path`; repeats when `key` makes that harmless."""
        headers = {"Idempotency-Key": key} if key else {}
        repeat = self._repeat if key else self._once
        answer = repeat(lambda: self.http.post(path, json=body, headers=headers))
        return answer.json() if answer.content else None

    def delete(self, path: str) -> Any:
        """Deletes what lies at `path`."""
        answer = self._once(lambda: self.http.delete(path))
        return answer.json() if answer.content else None

    def send(
        self, method: str, path: str, headers: dict[str, str], content: bytes = b""
    ) -> httpx.Response:
        """Sends a piece of an upload, or a request about one. Tried once.

        Raises:
            RetryableError: When it may be tried again, after asking for the offset.
        """
        with _explained(self.url):
            answer = self.http.request(method, path, headers=headers, content=content)
        if answer.status_code in MAY_BE_SENT_AGAIN:
            raise RetryableError(f"{path} answered {answer.status_code}.")
        if answer.is_error:
            _raise_for(answer)
        return answer

    @contextmanager
    def stream(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Opens `path` for reading piece by piece."""
        with (
            _explained(self.url),
            self.http.stream("GET", path, headers=headers) as answer,
        ):
            if answer.is_error:
                answer.read()
                _raise_for(answer)
            yield answer

    def _repeat(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        wait_seconds = FIRST_WAIT_SECONDS
        for _ in range(TRIES - 1):
            try:
                return self._once(send)
            except RetryableError:
                time.sleep(wait_seconds)
                wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)
        return self._once(send)

    def _once(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        with _explained(self.url):
            answer = send()
        if answer.is_error:
            _raise_for(answer)
        return answer


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.LocalProtocolError as error:  # sending it again would not help
        raise InternalError(f"No request could be made: {error}") from error
    except httpx.HTTPError as error:
        raise RetryableError(
            f"Trainyard does not answer at {url} ({error or type(error).__name__}): "
            "start it with `trainyard up`, or name another with TRAINYARD_URL."
        ) from error


def _raise_for(answer: httpx.Response) -> None:
    try:
        problem = answer.json()
        detail, field = problem.get("detail"), problem.get("field")
    except (ValueError, AttributeError):
        detail, field = None, None
    sentence = detail or f"{answer.request.url.path} answered {answer.status_code}."
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise UserError(f"The API token is not accepted: {sentence}", field="token")
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NotFoundError(sentence, field=field)
    if answer.status_code == httpx.codes.CONFLICT:
        raise ConflictError(sentence, field=field)
    if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise RangeNotThereError(sentence)
    if answer.status_code in SERVER_AWAY:
        raise RetryableError(sentence)
    full = answer.status_code == httpx.codes.INSUFFICIENT_STORAGE
    if answer.is_server_error and not full:
        raise InternalError(sentence)
    raise UserError(sentence, field=field)
