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
    nobody gets through while it asks to wait.

    Args:
        most: Requests at once, at first and at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._room = float(most)
        self._under_way = self._halved = 0
        self._opens_at = 0.0
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
            while not ended.is_set() and not self._is_open():
                self._changed.wait(_LOOK_SECONDS)
            self._under_way += 1
            return self._halved

    def _is_open(self) -> bool:
        return self._under_way < self.room and time.monotonic() >= self._opens_at

    def _grow(self) -> None:
        with self._changed:
            self._room = min(self._most, self._room + 1 / _FILES_TO_GROW)

    def _leave(self, busy: FetchError | None, halved: int) -> None:
        with self._changed:
            self._under_way -= 1
            if busy is not None:
                until = time.monotonic() + busy.wait_seconds
                self._opens_at = max(self._opens_at, until)
                if halved == self._halved:
                    self._halved += 1
                    self._room = max(1.0, self._room // 2)
            self._changed.notify_all()


class Gates:
    """The gate of each server.

    Args:
        most: Requests to one server at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._gates: dict[Host, Gate] = {}

    def of(self, address: Address) -> Gate:
        """Returns the gate of an address's server."""
        with self._lock:
            return self._gates.setdefault(host_of(address), Gate(self._most))


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
