"""How many files a server is asked for at once: fewer as soon as it says it is busy."""

import contextlib
import threading
import time
from collections.abc import Iterator

from shared.source_addresses import Address
from worker.ingest.remote.answers import Answer, FetchError, Opener
from worker.ingest.remote.hosts import Host, host_of

# After so many files one more is asked for at once. Sooner, a server that limits its
# rate would have to say so again and again.
_FILES_TO_GROW = 20
_LOOK_SECONDS = 0.2


class Gate:
    """Lets so many requests to one server through at once.

    The number is halved when the server is busy, once for all that were under way, and
    nobody gets through while it asks to wait. One that is busy for long and gives
    nothing is not waited for any more: whoever stands before the gate hears that it is,
    so that the attempt can end and its slot is free until the server gives files again.

    Args:
        most: Requests at once, at first and at most.
        busy_seconds: So long it may be busy on end.
    """

    def __init__(self, most: int, busy_seconds: float) -> None:
        self._most = most
        self._busy_seconds = busy_seconds
        self._room = float(most)
        self._under_way = self._halved = 0
        self._opens_at = 0.0
        self._busy_since: float | None = None
        self._last: FetchError | None = None
        self._changed = threading.Condition()

    @property
    def room(self) -> int:
        """How many get through at once."""
        return int(self._room)

    @contextlib.contextmanager
    def turn(self, ended: threading.Event) -> Iterator[None]:
        """Waits for a turn, and learns from what becomes of it.

        Args:
            ended: Set when nobody wants the file any more: then nothing is waited for.

        Raises:
            FetchError: When the server has been busy for too long.
        """
        halved = self._enter(ended)
        busy = None
        try:
            yield
            self._grow()
        except FetchError as error:
            busy = error if error.is_busy else None
            raise
        finally:
            self._leave(busy, halved)

    def _enter(self, ended: threading.Event) -> int:
        with self._changed:
            came_at = self._halved
            while not ended.is_set():
                if self._last and (self._is_closed() or self._halved > came_at):
                    raise FetchError(
                        self._last.reason, passes=True, is_busy=True, is_final=True
                    )
                if self._is_open():
                    break
                self._changed.wait(_LOOK_SECONDS)
            self._under_way += 1
            return self._halved

    def _is_open(self) -> bool:
        return self._under_way < self.room and not self._is_closed()

    def _is_closed(self) -> bool:
        return time.monotonic() < self._opens_at

    def _grow(self) -> None:
        with self._changed:
            self._room = min(self._most, self._room + 1 / _FILES_TO_GROW)
            self._busy_since = self._last = None

    def _leave(self, busy: FetchError | None, halved: int) -> None:
        with self._changed:
            self._under_way -= 1
            if busy is not None:
                now = time.monotonic()
                self._opens_at = max(self._opens_at, now + busy.wait_seconds)
                if halved == self._halved:
                    self._halved += 1
                    self._room = max(1.0, self._room // 2)
                if self._busy_since is None:
                    self._busy_since = now
                elif now - self._busy_since >= self._busy_seconds:
                    self._last = busy
                    busy.is_final = True
            self._changed.notify_all()


class Gates:
    """The gate of each server.

    Args:
        most: Requests to one server at once.
        busy_seconds: So long it may be busy on end.
    """

    def __init__(self, most: int, busy_seconds: float) -> None:
        self._most = most
        self._busy_seconds = busy_seconds
        self._lock = threading.Lock()
        self._gates: dict[Host, Gate] = {}

    def of(self, address: Address) -> Gate:
        """Returns the gate of an address's server."""
        with self._lock:
            host = host_of(address)
            if host not in self._gates:
                self._gates[host] = Gate(self._most, self._busy_seconds)
            return self._gates[host]


class GatedOpener:
    """Opens files as another opener does, each in its turn; see `Opener`.

    Args:
        opener: Opens them.
        gates: Whose turn it is.
        ended: Set when nobody wants the files any more.
    """

    def __init__(self, opener: Opener, gates: Gates, ended: threading.Event) -> None:
        self._opener = opener
        self._gates = gates
        self._ended = ended

    @contextlib.contextmanager
    def open(
        self, address: Address, *, offset: int, tag: str | None
    ) -> Iterator[Answer]:
        """Opens one file; the turn lasts until it has come."""
        with (
            self._gates.of(address).turn(self._ended),
            self._opener.open(address, offset=offset, tag=tag) as answer,
        ):
            yield answer
