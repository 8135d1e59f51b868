"""Fetches from web servers, over connections that reach allowed addresses only."""

import contextlib
import http
import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urljoin

import httpcore

from shared.errors import UserError
from shared.public_addresses import PinnedBackend, RefusedAddressError
from shared.source_addresses import (
    WEB_PORTS,
    Address,
    parse_address,
    require_allowed,
)
from worker.ingest.remote.answers import BUSY, Answer, FetchError
from worker.ingest.remote.rules import AddressRules

_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Servers that are busy or under repair say so with these.
_PASSING = frozenset({408, 425, 429})
# What a look-up answers of a name that nobody has; others say that nobody answered.
_UNKNOWN = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})
_LEAST_BYTES = 1024
_LONGEST_WAIT_SECONDS = 60.0
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_OF_HTTP = (
    *(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError),
    httpcore.UnsupportedProtocol,
)
_REFUSAL = (
    "Its host is not at a public address, and TRAINYARD_SOURCE_NETWORKS does not "
    "allow it; an administrator can add its network there."
)


class Pace:
    """The patience with a server that must send something: time without progress.

    Args:
        seconds: Of waiting, in which at least a kilobyte must come.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waited = 0.0
        self._got = 0

    def left(self) -> float:
        """Returns the seconds to wait; raises TimeoutError when there are none."""
        if self._waited >= self._seconds:
            raise TimeoutError
        return self._seconds - self._waited

    def took(self, size_bytes: int, seconds: float) -> None:
        """Hears what has come, and how long that was waited for."""
        self._waited += seconds
        self._got += size_bytes
        if self._got >= _LEAST_BYTES:
            self._waited, self._got = 0.0, 0


class WebOpener:
    """Opens files on web servers; used by several threads at once.

    Args:
        rules: What may be fetched; every redirect is held to it again.
    """

    def __init__(self, rules: AddressRules) -> None:
        self._rules = rules
        self._pool = httpcore.ConnectionPool(
            max_connections=rules.parallel * 2,
            max_keepalive_connections=rules.parallel,
            keepalive_expiry=20,
            network_backend=PinnedBackend(
                rules.networks,
                _REFUSAL,
                lambda: Pace(rules.stall_seconds),
                connect_seconds=rules.connect_seconds,
            ),
        )

    def close(self) -> None:
        """Closes every connection."""
        self._pool.close()

    @contextlib.contextmanager
    def open(
        self, address: Address, *, offset: int, tag: str | None
    ) -> Iterator[Answer]:
        """Opens one file, through at most five redirects; see `Opener`."""
        for _ in range(_MOST_REDIRECTS + 1):
            with contextlib.ExitStack() as stack:
                with _translated():
                    response = stack.enter_context(self._ask(address, offset, tag))
                headers = _read_headers(response)
                if response.status in _REDIRECTS:
                    address = self._follow(address, headers.get("location", ""))
                    continue
                _require_success(response.status, headers, offset)
                yield _read_answer(response, headers, offset)
                return
        raise FetchError(f"Its server redirects more than {_MOST_REDIRECTS} times.")

    def _ask(
        self, address: Address, offset: int, tag: str | None
    ) -> contextlib.AbstractContextManager[httpcore.Response]:
        host = f"[{address.host}]" if ":" in address.host else address.host
        if address.port != WEB_PORTS[address.scheme]:
            host = f"{host}:{address.port}"
        headers = {
            "host": host,
            "user-agent": "Trainyard",
            "accept": "*/*",
            # Compressed on the way, neither sizes nor the rest of a file make sense.
            "accept-encoding": "identity",
        }
        if offset and tag:
            headers |= {"range": f"bytes={offset}-", "if-range": tag}
        target = f"{address.path}?{address.query}" if address.query else address.path
        url = httpcore.URL(
            scheme=address.scheme.encode(),
            host=address.host.encode(),
            port=address.port,
            target=target.encode(),
        )
        # A reader's own time-outs: httpcore's would begin anew with every byte.
        return self._pool.stream("GET", url, headers=[*headers.items()])

    def _follow(self, address: Address, location: str) -> Address:
        whole = f"{address}?{address.query}" if address.query else str(address)
        try:
            target = parse_address(urljoin(whole, location), may_query=True)
            require_allowed(target, self._rules.allowed)
        except (UserError, ValueError) as error:
            raise FetchError(f"Its server redirects elsewhere. {error}") from error
        return target


def _read_headers(response: httpcore.Response) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in response.headers
    }


def _require_success(status: int, headers: dict[str, str], offset: int) -> None:
    if status in {200, 206}:
        return
    if status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
        raise FetchError("It changed meanwhile.", passes=True, restart=True)
    raise FetchError(
        f"Its server answers {_name_status(status)}.",
        # What begins with a 5 is the server's own fault, whether it has a name or not:
        # what stands in front of a server has numbers of its own, such as 522.
        passes=status in _PASSING or status // 100 == 5,  # noqa: PLR2004
        wait_seconds=_read_wait(headers.get("retry-after", "")),
        is_busy=status in BUSY,
    )


def _name_status(status: int) -> str:
    try:
        return f"{status} ({http.HTTPStatus(status).phrase})"
    except ValueError:  # nobody has registered it
        return str(status)


def _read_wait(text: str) -> float:
    return min(float(text), _LONGEST_WAIT_SECONDS) if text.isdecimal() else 0.0


def _read_answer(
    response: httpcore.Response, headers: dict[str, str], offset: int
) -> Answer:
    size = headers.get("content-length", "")
    whole = int(size) if size.isdecimal() else None
    begin = 0
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        found = _RANGE.fullmatch(headers.get("content-range", ""))
        if found is None or int(found[1]) != offset:
            raise FetchError(
                "Its server sends another part than was asked for.",
                passes=True,
                restart=True,
            )
        begin = offset
        whole = int(found[2]) if found[2].isdecimal() else None
    return Answer(_read_pieces(response), begin, whole, _read_tag(headers))


def _read_tag(headers: dict[str, str]) -> str | None:
    """What names this very content; a weak tag does not."""
    if headers.get("accept-ranges", "").lower() == "none":
        return None
    tag = headers.get("etag", "")
    return tag if tag.startswith('"') else headers.get("last-modified")


def _read_pieces(response: httpcore.Response) -> Iterator[bytes]:
    with _translated():
        yield from response.iter_stream()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turns what networks do into sentences."""
    try:
        yield
    except (RefusedAddressError, OSError, UnicodeError, *_OF_HTTP) as error:
        raise _explain(error) from error


# The first that fits.
_SENTENCES: tuple[tuple[tuple[type[Exception], ...], str, bool], ...] = (
    ((TimeoutError, httpcore.TimeoutException), "Its server does not answer in time.",
     True),
    ((ssl.SSLError,), "Its server's certificate is not trusted.", False),
    ((httpcore.ConnectError, socket.gaierror), "Its server cannot be reached.", True),
    ((httpcore.RemoteProtocolError,),
     "Its server ended the transfer early, or does not speak HTTP.", True),
    ((UnicodeError, httpcore.UnsupportedProtocol), "Its host is no name.", False),
)  # fmt: skip


def _explain(error: Exception) -> FetchError:
    if isinstance(error, RefusedAddressError):
        return FetchError(str(error))
    if isinstance(error, socket.gaierror) and error.errno in _UNKNOWN:
        return FetchError("There is no server of this name.")
    if "CERTIFICATE" in str(error).upper():
        return FetchError("Its server's certificate is not trusted.")
    for kinds, words, passes in _SENTENCES:
        if isinstance(error, kinds):
            return FetchError(words, passes=passes)
    return FetchError("The connection to its server broke.", passes=True)
