"""Webhooks: what is posted, how it is signed, and where it may go.

The form is that of Standard Webhooks (https://www.standardwebhooks.com): the headers
`webhook-id`, `webhook-timestamp` and `webhook-signature`, where the last is `v1,` and
the HMAC-SHA256 of `ID.TIMESTAMP.BODY` under the receiver's secret.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpcore

from shared.errors import UserError
from shared.notifications.delivery_store import Answer, Due
from shared.public_addresses import Deadline, Network, PinnedBackend, is_allowed

SECRET_PREFIX = "whsec_"  # noqa: S105 - how such a secret is known
LONGEST_ADDRESS = 2_000
TRY_SECONDS = 15.0  # of one try, with all of its answer
MOST_READ_BYTES = 4_096
GONE = 410  # "do not ask again"

_REFUSED = (
    "{} is not at a public address, and TRAINYARD_WEBHOOK_NETWORKS does not allow it; "
    "an administrator can add its network there"
)


def derive_secret(key: str, salt: str) -> str:
    """Returns the secret of a receiver: the records hold the salt alone.

    Args:
        key: The installation's secret key.
        salt: The receiver's.
    """
    digest = hmac.digest(key.encode(), f"webhook {salt}".encode(), hashlib.sha256)
    return SECRET_PREFIX + base64.b64encode(digest).decode()


def sign(secret: str, key: str, seconds: int, body: bytes) -> str:
    """Returns the value of `webhook-signature`.

    Args:
        secret: `whsec_` and the key in Base64.
        key: The event id.
        seconds: The try's time, since 1970.
        body: As it is sent.
    """
    signed = f"{key}.{seconds}.".encode() + body
    raw = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.digest(raw, signed, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def build_body(due: Due, public_url: str | None) -> bytes:
    """Returns the JSON that is posted."""
    data: dict[str, Any] = dict(due.facts)
    if public_url and "job_id" in data:
        data["url"] = f"{public_url.rstrip('/')}/jobs/{data['job_id']}"
    at = datetime.fromtimestamp(due.at / 1000, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"type": due.kind, "timestamp": at, "data": data}).encode()


def check_address(address: str, networks: Sequence[Network]) -> str:
    """Returns the address of a webhook without blanks around it.

    Only what can be told without asking anybody; a name is looked up at each try.

    Raises:
        UserError: When nothing could ever be sent there.
    """
    address = address.strip()
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises for one that is none
    except ValueError as error:
        raise _odd(address, str(error)) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _odd(address, "it must begin with https:// or http:// and name a host")
    if len(address) > LONGEST_ADDRESS:
        raise _odd(address[:80], f"it has more than {LONGEST_ADDRESS} characters")
    if parts.username or parts.password:
        raise _odd(address, "name and password in it would be shown to others")
    if not address.isascii() or not address.isprintable() or " " in address:
        raise _odd(address, "write other characters as %XX, and hosts as xn--...")
    with contextlib.suppress(ValueError):  # a name
        if not is_allowed(parts.hostname, networks):
            raise _odd(address, _REFUSED.format(parts.hostname))
    return address


def post(
    due: Due, secret: str, public_url: str | None, networks: Sequence[Network]
) -> Answer:
    """Posts an event once; never raises for what the other side does."""
    body = build_body(due, public_url)
    began = time.monotonic()
    now = int(time.time())
    headers = {
        "content-type": "application/json",
        "user-agent": "Trainyard",
        "webhook-id": due.key,
        "webhook-timestamp": str(now),
        "webhook-signature": sign(secret, due.key, now, body),
    }
    try:
        status, text = _send(due.address, headers, body, networks)
    except Exception as error:  # noqa: BLE001 - whatever a server does, it is told
        return Answer(good=False, text=_tell(error), took_ms=_since(began))
    good = 200 <= status < 300  # noqa: PLR2004 - what HTTP calls successful
    unwanted = status == GONE
    return Answer(good, text, status, _since(began), unwanted)


def _send(
    address: str, headers: dict[str, str], body: bytes, networks: Sequence[Network]
) -> tuple[int, str]:
    """Returns status and beginning of the answer; redirects are not followed."""
    deadline = Deadline(TRY_SECONDS)
    limits = dict.fromkeys(("connect", "read", "write", "pool"), TRY_SECONDS)
    # Without the address: nobody shall learn our network's names from it.
    backend = PinnedBackend(networks, _REFUSED.format("Its host"), lambda: deadline)
    with (
        httpcore.ConnectionPool(network_backend=backend) as pool,
        pool.stream(
            "POST", address, headers=[*headers.items()], content=body,
            extensions={"timeout": limits},
        ) as response,
    ):  # fmt: skip
        read = b""
        for chunk in response.iter_stream():
            read += chunk
            if len(read) >= MOST_READ_BYTES:
                break
        return response.status, _clean(read[:MOST_READ_BYTES])


def _odd(address: str, why: str) -> UserError:
    return UserError(f"`address` cannot be used: {why}. Received: {address!r}.",
                     field="address")  # fmt: skip


def _tell(error: Exception) -> str:
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return f"No answer within {TRY_SECONDS:g} seconds."
    words = str(error) or type(error).__name__
    return f"No answer: {words[:300]}"


def _clean(answer: bytes) -> str:
    text = answer.decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def _since(began: float) -> int:
    return int(1000 * (time.monotonic() - began))
