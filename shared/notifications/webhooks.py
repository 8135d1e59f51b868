"""Webhooks: what is posted, how it is signed, and where it may go.

The form is that of Standard Webhooks (https://www.standardwebhooks.com): the headers
`webhook-id`, `webhook-timestamp` and `webhook-signature`, where the last is `v1,` and
the HMAC-SHA256 of `ID.TIMESTAMP.BODY` under the receiver's secret.
"""

import base64
import contextlib
import hashlib
import hmac
import ipaddress
import json
import queue
import socket
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpcore

from shared.errors import TrainyardError, UserError
from shared.notifications.delivery_store import Answer, Due

SECRET_PREFIX = "whsec_"  # noqa: S105 - how such a secret is known
LONGEST_ADDRESS = 2_000
TRY_SECONDS = 15.0  # of one try, with all of its answer
MOST_READ_BYTES = 4_096
GONE = 410  # "do not ask again"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


_REFUSED = (
    "{} is not at a public address, and TRAINYARD_WEBHOOK_NETWORKS does not allow it; "
    "an administrator can add its network there"
)
# IPv6 addresses behind which a router may find a private IPv4 one: NAT64 (RFC 6052 and
# 8215), 6to4 (RFC 3056), site-local (RFC 3879) and IPv4-compatible ones (RFC 4291).
_TRANSLATED = [
    ipaddress.ip_network(name)
    for name in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fec0::/10", "::/96")
]


class RefusedAddressError(TrainyardError):
    """The webhook's host lies in a network that webhooks must not reach."""


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
        if not _is_allowed(parts.hostname, networks):
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
    deadline = time.monotonic() + TRY_SECONDS
    limits = dict.fromkeys(("connect", "read", "write", "pool"), TRY_SECONDS)
    with (
        httpcore.ConnectionPool(network_backend=_Guard(networks, deadline)) as pool,
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


class _Guard(httpcore.NetworkBackend):
    """Connects to allowed addresses only, and to the very one that was looked at."""

    def __init__(self, networks: Sequence[Network], deadline: float) -> None:
        self._networks = networks
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, *args: Any, **kw: Any) -> Any:
        address = _look_up(host, port, _left(self._deadline))
        if not _is_allowed(address, self._networks):
            # Without the address: nobody shall learn our network's names from it.
            raise RefusedAddressError(_REFUSED.format("Its host"))
        kw["timeout"] = _left(self._deadline)
        stream = self._backend.connect_tcp(address, port, *args, **kw)
        return _InTime(stream, self._deadline)


class _InTime(httpcore.NetworkStream):
    """A stream that has a deadline: a byte now and then does not hold a try up."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, *args: Any, **kw: Any) -> Any:
        kw["timeout"] = _left(self._deadline)
        return _InTime(self._stream.start_tls(*args, **kw), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    """Returns the seconds until then; raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _look_up(host: str, port: int, seconds: float) -> str:
    """Returns an address of `host`; the system's own look-up knows no deadline."""
    answers: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return str(found[0][4][0])


def _is_allowed(host: str, networks: Sequence[Network]) -> bool:
    """Whether this address may be posted to; raises ValueError for a name."""
    address = ipaddress.ip_address(host.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    if any(address in network for network in networks):
        return True
    hidden = any(address in network for network in _TRANSLATED)
    return address.is_global and not address.is_multicast and not hidden


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
