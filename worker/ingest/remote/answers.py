"""What web servers and object storage have in common: one file, from some byte on."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from shared.source_addresses import Address

# Statuses of a server of which too much is asked.
BUSY = frozenset({429, 503})


class FetchError(Exception):
    """A file could not be fetched.

    Args:
        reason: Sentence for people; holds no secret and no address.
        passes: Whether it may well work a little later.
        restart: Whether what has come so far is worth nothing.
        wait_seconds: How long the server asks to wait.
        is_busy: Whether the server says that too much is asked of it.
        is_final: Whether nothing is gained by trying this file again soon.
    """

    def __init__(
        self,
        reason: str,
        *,
        passes: bool = False,
        restart: bool = False,
        wait_seconds: float = 0,
        is_busy: bool = False,
        is_final: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.passes = passes
        self.restart = restart
        self.wait_seconds = wait_seconds
        self.is_busy = is_busy
        self.is_final = is_final


@dataclass(slots=True)
class Answer:
    """A file as it comes in.

    Args:
        pieces: Its bytes; raises FetchError when they end too early.
        offset: Which byte they begin with.
        size_bytes: Of the whole file; None where the server does not say.
        tag: Names this very content, so that the rest can be asked for later.
    """

    pieces: Iterator[bytes]
    offset: int
    size_bytes: int | None
    tag: str | None


class Opener(Protocol):
    """Asks one kind of server."""

    def open(
        self, address: Address, *, offset: int, tag: str | None
    ) -> AbstractContextManager[Answer]:
        """Opens a file from the byte `offset` on, if it still is the one of `tag`.

        Raises:
            FetchError: When it is not to be had.
        """
        ...
