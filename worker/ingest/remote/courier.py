"""Fetches the files of one ingest: several at once, counted, in the order asked."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import OutageError, UserError
from shared.progress_words import say_size
from shared.source_addresses import Address, require_allowed
from worker.ingest.disk import Reserve
from worker.ingest.limits import Basket, Limits
from worker.ingest.remote.answers import FetchError, Opener
from worker.ingest.remote.download import Fetched, Terms, download
from worker.ingest.remote.gates import GatedOpener, Gates
from worker.ingest.remote.hosts import Hosts, outage
from worker.ingest.remote.kept_files import KeptFiles
from worker.ingest.remote.rules import AddressRules
from worker.ingest.remote.stores import StoreOpener
from worker.ingest.remote.web import WebOpener

_AHEAD = 4  # files waiting for each one that is fetched
_TELL_SECONDS = 0.5
# Called with what is done, of how much (0 when nobody knows), in which unit, and with
# the bytes that have come: a large file may take longer than a stalled job is given.
Tell = Callable[[int, int, str, int], None]


@dataclass(frozen=True, slots=True)
class Means:
    """What an attempt brings to the fetching.

    Args:
        kept: Where files come to lie, and what earlier attempts have fetched.
        credentials: Of object storage, by the usual names of environment variables. In
            the environment itself they must not be any more: other processes inherit
            that.
        tell: Hears how far it is.
    """

    kept: KeptFiles
    credentials: Mapping[str, str] = field(default_factory=dict)
    tell: Tell = lambda _done, _total, _unit, _come_bytes: None


@dataclass(frozen=True, slots=True)
class Parcel:
    """One file that was asked for.

    Args:
        key: What the asker calls it.
        fetched: The file.
        fault: Why there is none.
    """

    key: str
    fetched: Fetched | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Errand:
    """A file that is on its way."""

    key: str
    address: Address
    future: "Future[Fetched]"


class Courier:
    """Fetches from addresses that the rules allow.

    Args:
        rules: What may be fetched.
        means: Of the attempt.
        limits: What it may cost.
        basket: Counts files over all sources.
    """

    def __init__(
        self, rules: AddressRules, means: Means, *, limits: Limits, basket: Basket
    ) -> None:
        self.rules = rules
        self.notes: list[str] = []
        self._limits = limits
        self._kept = means.kept
        self._basket = basket
        self._tell = means.tell
        self._web = WebOpener(rules)
        self.stores = StoreOpener(rules, means.credentials)
        self._gates = Gates(rules.parallel, rules.busy_seconds)
        self._lock = threading.Lock()

    def fetch_whole(self, address: Address) -> Path:
        """Fetches an archive or a table, without which there is nothing.

        Raises:
            UserError: When it may not be fetched or is not there.
            OutageError: When its server fails.
            OwnDiskError: The disk has no room for it beside the reserve.
        """
        require_allowed(address, self.rules.allowed)
        most = self._limits.max_unpacked_bytes
        got = _Incoming(Reserve(self._kept.arriving))
        with ThreadPoolExecutor(1) as pool:
            ended = threading.Event()
            terms = Terms(self.rules, most, got.add, ended, got.expect)
            path = self._kept.new_path()
            future = pool.submit(self._bring, address, path, terms)
            try:
                while not wait([future], timeout=_TELL_SECONDS).done:
                    self._tell(got.total, got.expected, "bytes", got.total)
                fetched = self._kept.add(address, future.result())
            except FetchError as error:
                raise explain(address, error) from error
            finally:
                ended.set()
        self._kept.flush()  # now: what is done with it may take long
        self.notes.append(
            f"Fetched {address}: {say_size(fetched.size_bytes)}, "
            f"SHA-256 {fetched.sha256}."
        )
        return fetched.path

    def fetch_all(
        self, wanted: Iterable[tuple[str, Address]], total: int
    ) -> Iterator[Parcel]:
        """Fetches pictures; yields them in the order asked, with what failed.

        Args:
            wanted: What the asker calls each, and where it lies.
            total: How many there are; 0 when nobody knows.

        Raises:
            UserError: When together they are too much.
            OutageError: When nothing can be reached, or a server that gave files has
                failed for many in a row.
            OSError: The disk is full.
        """
        ended = threading.Event()
        most = self._limits.max_file_bytes
        terms = Terms(self.rules, most, self._count, ended)
        hosts = Hosts(self.rules.outage)
        pool = ThreadPoolExecutor(self.rules.parallel)
        waiting: deque[_Errand] = deque()
        done = 0
        try:
            for key, address in wanted:
                self._count_file()
                path = self._kept.new_path()
                future = pool.submit(self._fetch_one, address, path, terms, hosts)
                waiting.append(_Errand(key, address, future))
                if len(waiting) >= self.rules.parallel * _AHEAD:
                    yield self._take(waiting.popleft(), hosts, done, total)
                    done += 1
            while waiting:
                yield self._take(waiting.popleft(), hosts, done, total)
                done += 1
            hosts.require_any()
        finally:
            ended.set()
            pool.shutdown(cancel_futures=True)
            self._keep_rest(waiting)

    def _take(self, errand: _Errand, hosts: Hosts, done: int, total: int) -> Parcel:
        while not wait([errand.future], timeout=_TELL_SECONDS).done:
            self._tell(done, total, "files", self._basket.size_bytes)
            self._kept.flush_if_due()
        try:
            fetched = errand.future.result()
        except FetchError as error:
            hosts.failed(errand.address, error)
            return Parcel(errand.key, fault=error.reason)
        hosts.gave(errand.address, is_known=fetched.is_known)
        self._tell(done + 1, total, "files", self._basket.size_bytes)
        return Parcel(errand.key, self._kept.add(errand.address, fetched))

    def _keep_rest(self, errands: Iterable[_Errand]) -> None:
        """Keeps what has come behind the file for which the attempt ends."""
        with contextlib.suppress(OSError):  # on a full disk nothing is kept
            for errand in errands:
                future = errand.future
                if not future.cancelled() and future.exception() is None:
                    self._kept.add(errand.address, future.result())

    def _fetch_one(
        self, address: Address, path: Path, terms: Terms, hosts: Hosts
    ) -> Fetched:
        try:
            require_allowed(address, self.rules.allowed)
        except UserError as error:
            raise FetchError(str(error)) from error
        return self._bring(address, path, terms, hosts)

    def _bring(
        self, address: Address, path: Path, terms: Terms, hosts: Hosts | None = None
    ) -> Fetched:
        """Takes what an earlier attempt has fetched, or fetches."""
        known = self._kept.find(address, path, terms)
        if known is not None:
            return known
        silent = hosts.find_silent(address) if hosts else None
        if silent is not None:
            raise FetchError(silent.reason, passes=True)
        opener: Opener = self.stores if address.is_store else self._web
        gated = GatedOpener(opener, self._gates, terms.ended)
        return download(gated, address, path, terms)

    def _count_file(self) -> None:
        with self._lock:
            self._basket.count_file()

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self._basket.count_bytes(size_bytes)


def explain(address: Address, error: FetchError) -> UserError | OutageError:
    """Returns what it means for the whole ingest that `address` was not to be had."""
    if error.passes:
        return outage(address, error)
    words = f"{address} could not be fetched. {error.reason}"
    return UserError(words, field="address")


class _Incoming:
    """A file that one thread fetches and another one tells of.

    Its own bytes count for no limit of uploads: what comes out of it does.

    Args:
        reserve: What the disk keeps free meanwhile.
    """

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        self.total = self.expected = 0  # bytes; 0 are expected while nobody knows

    def expect(self, size_bytes: int) -> None:
        self.expected = size_bytes
        self._reserve.require(max(0, size_bytes - self.total))

    def add(self, size_bytes: int) -> None:
        self._reserve.count(size_bytes)
        self.total += size_bytes
