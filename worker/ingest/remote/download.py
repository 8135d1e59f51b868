"""Brings one file onto the disk: in pieces, with limits, going on where it broke."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from shared.progress_words import say_size
from shared.source_addresses import Address
from worker.ingest.remote.answers import Answer, FetchError, Opener
from worker.ingest.remote.rules import AddressRules

_LONGEST_BACKOFF_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that has come whole.

    Args:
        path: Where it lies.
        size_bytes: Its size.
        sha256: Of its bytes.
        is_known: Whether an earlier attempt has fetched it.
    """

    path: Path
    size_bytes: int
    sha256: str
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """What a file may cost.

    Args:
        rules: Tries and waits.
        most_bytes: Largest file.
        count: Called with the bytes of each piece; below zero when they are given
            back. May raise to end everything.
        ended: Set when nobody wants the file any more.
        announce: Called with how many bytes its server says it has; 0 where it does
            not. May raise to end everything.
    """

    rules: AddressRules
    most_bytes: int
    count: Callable[[int], None]
    ended: Event
    announce: Callable[[int], None] = lambda _size_bytes: None


def download(opener: Opener, address: Address, path: Path, terms: Terms) -> Fetched:
    """Fetches one file to `path`; nothing of it stays when it fails.

    Raises:
        FetchError: After several tries, or at once when no try can help.
        OSError: The disk is full.
    """
    transfer = _Transfer(path, terms)
    try:
        tries = 0
        while True:
            before = transfer.size_bytes
            try:
                transfer.go_on(opener, address)
                break
            except FetchError as error:
                got_further = transfer.size_bytes > before and transfer.can_go_on
                tries = 1 if got_further else tries + 1
                if error.restart:
                    transfer.forget()
                if not error.passes or error.is_final or tries >= terms.rules.tries:
                    raise
                _wait(tries, error.wait_seconds, terms)
        return Fetched(path, transfer.size_bytes, transfer.digest.hexdigest())
    except BaseException:
        transfer.forget()
        path.unlink(missing_ok=True)
        raise


class _Transfer:
    """The file so far."""

    def __init__(self, path: Path, terms: Terms) -> None:
        self._path = path
        self._terms = terms
        self.digest = hashlib.sha256()
        self.size_bytes = 0
        self._tag: str | None = None

    @property
    def can_go_on(self) -> bool:
        return self.size_bytes > 0 and self._tag is not None

    def go_on(self, opener: Opener, address: Address) -> None:
        """Fetches what is missing."""
        if not self.can_go_on:
            self.forget()
        with opener.open(address, offset=self.size_bytes, tag=self._tag) as answer:
            if answer.offset != self.size_bytes:
                self.forget()  # the server sends it from the front
            self._tag = answer.tag
            self._check_size(answer.size_bytes or 0)
            self._terms.announce(answer.size_bytes or 0)
            self._write(answer)
        if answer.size_bytes is not None and self.size_bytes < answer.size_bytes:
            raise FetchError("Its server sent less than it had said.", passes=True)

    def forget(self) -> None:
        """Begins anew."""
        self._terms.count(-self.size_bytes)
        self.digest = hashlib.sha256()
        self.size_bytes, self._tag = 0, None

    def _write(self, answer: Answer) -> None:
        with self._path.open("ab" if self.size_bytes else "wb") as stream:
            for piece in answer.pieces:
                if self._terms.ended.is_set():
                    raise FetchError("It is not wanted any more.")
                self._check_size(self.size_bytes + len(piece))
                self._terms.count(len(piece))
                stream.write(piece)
                self.digest.update(piece)
                self.size_bytes += len(piece)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._terms.most_bytes:
            raise FetchError(
                f"It is larger than {say_size(self._terms.most_bytes)}, the most "
                "that this installation fetches as one such file."
            )


def _wait(tries: int, asked_seconds: float, terms: Terms) -> None:
    backoff = terms.rules.backoff_seconds * 2 ** (tries - 1)
    seconds = max(asked_seconds, min(backoff, _LONGEST_BACKOFF_SECONDS))
    # Not all at once again: that is what made the server break down.
    terms.ended.wait(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
