"""Which network addresses may be reached, and connections to the very one looked at.

Webhooks post to hosts that users name, and datasets are fetched from some. A name is
looked up once for each connection, what it means is checked, and the connection goes
to that address and no other: a second look-up could be answered differently.
"""

import contextlib
import ipaddress
import math
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import httpcore

from shared.errors import TrainyardError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IPv6 addresses behind which a router may find a private IPv4 one: NAT64 (RFC 6052 and
# 8215), 6to4 (RFC 3056), site-local (RFC 3879) and IPv4-compatible ones (RFC 4291).
_TRANSLATED = [
    ipaddress.ip_network(name)
    for name in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fec0::/10", "::/96")
]


class RefusedAddressError(TrainyardError):
    """The host lies in a network that must not be reached."""


class Patience(Protocol):
    """How long one connection may take: for all of it, or without progress."""

    def left(self) -> float:
        """Returns the seconds for the next step; raises TimeoutError without any."""
        ...

    def took(self, size_bytes: int, seconds: float) -> None:
        """Hears how many bytes have come, and how long they were waited for."""
        ...


class Deadline:
    """A point in time: a byte now and then does not hold the whole up.

    Args:
        seconds: From now.
    """

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Returns the seconds until then; raises TimeoutError when there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def took(self, size_bytes: int, seconds: float) -> None:
        """Changes nothing: the point in time stays."""


def is_allowed(host: str, networks: Sequence[Network]) -> bool:
    """Whether this address is public or in `networks`; raises ValueError for a name."""
    address = ipaddress.ip_address(host.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    if any(address in network for network in networks):
        return True
    hidden = any(address in network for network in _TRANSLATED)
    return address.is_global and not address.is_multicast and not hidden


class PinnedBackend(httpcore.NetworkBackend):
    """Connects to allowed addresses only, and to the very ones that were looked at.

    Args:
        networks: What is allowed beside public addresses.
        refusal: The sentence for everything else. It should name no address: nobody
            shall learn our network's names from it.
        new_patience: Called for each connection.
        connect_seconds: Of each address; as long as patience lasts where it is None.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        refusal: str,
        new_patience: Callable[[], Patience],
        *,
        connect_seconds: float | None = None,
    ) -> None:
        self._networks = networks
        self._refusal = refusal
        self._new_patience = new_patience
        self._connect_seconds = connect_seconds or math.inf
        self._backend = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, *args: Any, **kw: Any) -> Any:
        """Connects to the first address of `host` that answers.

        Raises:
            RefusedAddressError: When any of them is not allowed.
            TimeoutError: When patience has run out.
        """
        patience = self._new_patience()
        addresses = look_up(host, port, self._time(patience))
        if not all(is_allowed(address, self._networks) for address in addresses):
            raise RefusedAddressError(self._refusal)
        for address in addresses[:-1]:
            kw["timeout"] = self._time(patience) / 2  # leaves time for the others
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return self._connect(address, port, patience, *args, **kw)
        kw["timeout"] = self._time(patience)
        return self._connect(addresses[-1], port, patience, *args, **kw)

    def _connect(
        self, address: str, port: int, patience: Patience, *args: Any, **kw: Any
    ) -> httpcore.NetworkStream:
        stream = self._backend.connect_tcp(address, port, *args, **kw)
        return _Patient(stream, patience)

    def _time(self, patience: Patience) -> float:
        return min(patience.left(), self._connect_seconds)


class _Patient(httpcore.NetworkStream):
    """A stream that takes no longer than its patience lasts."""

    def __init__(self, stream: httpcore.NetworkStream, patience: Patience) -> None:
        self._stream = stream
        self._patience = patience

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        began = time.monotonic()
        data = self._stream.read(max_bytes, self._patience.left())
        self._patience.took(len(data), time.monotonic() - began)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, self._patience.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, *args: Any, **kw: Any) -> Any:
        kw["timeout"] = self._patience.left()
        return _Patient(self._stream.start_tls(*args, **kw), self._patience)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def look_up(host: str, port: int, seconds: float) -> list[str]:
    """Returns the addresses of `host`; the system's own look-up knows no deadline.

    Raises:
        OSError: When the name is not known; TimeoutError when nobody answers in time.
        UnicodeError: When it can be no name.
    """
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
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
