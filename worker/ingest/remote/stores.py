"""Reads object storage: `s3://bucket/key`, `gs://...` and `az://...`, by obstore."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from shared.public_addresses import is_allowed, look_up
from shared.source_addresses import Address, parse_address
from worker.ingest.found import plain_name, shorten
from worker.ingest.remote.answers import BUSY, Answer, FetchError
from worker.ingest.remote.rules import AddressRules

_PIECE_BYTES = 1 << 20
_LIST_AT_ONCE = 1000
_DAY_SECONDS = 86_400
_LIST_TRIES = 5
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NAMED_PATH = re.compile(r'[Pp]ath "(.*?)"(?:: Encountered| contained)', re.DOTALL)
_NO_ENTRY = (
    "Its storage refuses access; the credentials are those in the environment of the "
    "worker."
)


class StoreOpener:
    """Opens and lists objects; used by several threads at once.

    Args:
        rules: Where `s3://` is served, and how patiently.
        credentials: Of the storage, by the usual names of environment variables.
    """

    def __init__(self, rules: AddressRules, credentials: Mapping[str, str]) -> None:
        self._rules = rules
        self._credentials = credentials
        self._lock = threading.Lock()
        self._stores: dict[tuple[str, str, int], Any] = {}

    @contextlib.contextmanager
    def open(
        self, address: Address, *, offset: int, tag: str | None
    ) -> Iterator[Answer]:
        """Opens one object; see `Opener`."""
        _require_path(address.path)
        options: Any = {"range": {"offset": offset}} if offset else {}
        if tag:
            options["if_match"] = tag
        with _translated():
            store = self._store(address, tries=1)
            found = obstore.get(store, address.path, options=options)
        meta = found.meta
        yield Answer(
            _read_pieces(found), found.range[0], int(meta["size"]), meta["e_tag"]
        )

    def list_below(self, folder: Address) -> Iterator[tuple[Address, int]]:
        """Yields every object below a prefix, with its size in bytes.

        Raises:
            FetchError: When it cannot be listed: obstore reads a thousand names at a
                time, and none of them where one is no path.
        """
        prefix = folder.path.rstrip("/")
        _require_path(prefix)
        with _translated():
            store = self._store(folder, tries=_LIST_TRIES)
            for found in obstore.list(store, prefix, chunk_size=_LIST_AT_ONCE):
                for meta in found:
                    yield (
                        Address(folder.scheme, folder.host, 0, meta["path"]),
                        int(meta["size"]),
                    )

    def _store(self, address: Address, *, tries: int) -> Any:
        key = (address.scheme, address.host, tries)
        with self._lock:
            if key not in self._stores:
                self._stores[key] = self._build(address, tries)
            return self._stores[key]

    def _build(self, address: Address, tries: int) -> Any:
        begin = {"s3": "aws_", "gs": "google_", "az": "azure_"}[address.scheme]
        config = {
            name.lower(): value
            for name, value in self._credentials.items()
            if name.lower().startswith(begin)
        }
        endpoint = self._rules.s3_endpoint if address.scheme == "s3" else None
        if endpoint:
            self._check_endpoint(parse_address(endpoint))
            config["aws_endpoint"] = endpoint
        build: Callable[..., Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[
            address.scheme
        ]
        try:
            return self._make(build, address, config, tries)
        except (BaseError, ValueError) as error:
            raise FetchError(
                "The credentials of its storage in the environment of the worker "
                "cannot be used."
            ) from error

    def _make(
        self,
        build: Callable[..., Any],
        address: Address,
        config: Mapping[str, str],
        tries: int,
    ) -> Any:
        return build(
            address.host,
            config=config,
            client_options={
                "allow_http": config.get("aws_endpoint", "").startswith("http://"),
                "connect_timeout": timedelta(seconds=self._rules.connect_seconds),
                "read_timeout": timedelta(seconds=self._rules.stall_seconds),
                "timeout": timedelta(seconds=_DAY_SECONDS),
            },
            retry_config={
                "max_retries": tries - 1,
                "retry_timeout": timedelta(seconds=self._rules.stall_seconds),
            },
        )

    def _check_endpoint(self, endpoint: Address) -> None:
        """Refuses a server in a network that is not allowed.

        It is the operator's word, so a name that changes its meaning later is theirs.
        """
        try:
            found = look_up(endpoint.host, endpoint.port, self._rules.connect_seconds)
        except OSError as error:
            reason = "The server that TRAINYARD_SOURCE_S3_ENDPOINT names is not found."
            raise FetchError(reason, passes=True) from error
        if not all(is_allowed(address, self._rules.networks) for address in found):
            raise FetchError(
                "TRAINYARD_SOURCE_S3_ENDPOINT is not at a public address, and "
                "TRAINYARD_SOURCE_NETWORKS does not allow it; an administrator can add "
                "its network there."
            )


def _require_path(key: str) -> None:
    """Refuses a key that obstore asks for by another one, or not at all."""
    if "//" in f"/{key}":
        raise FetchError(
            "Its name holds “//”, by which nothing can be asked for. Rename it in the "
            "storage."
        )


def _read_pieces(found: Any) -> Iterator[bytes]:
    with _translated():
        for piece in found.stream(min_chunk_size=_PIECE_BYTES):
            yield bytes(piece)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turns what obstore raises into sentences.

    Never with its own words: they hold addresses, and a storage's answer may hold the
    name of a key.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FetchError("There is no such object.") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise FetchError(_NO_ENTRY) from error
    except PreconditionError as error:
        raise FetchError("It changed meanwhile.", passes=True, restart=True) from error
    except InvalidPathError as error:
        raise FetchError(_explain_path(error)) from error
    except (BaseError, ValueError, OSError) as error:
        raise _explain(error) from error


def _explain_path(error: Exception) -> str:
    """Names the object: of the words of obstore its name alone."""
    found = _NAMED_PATH.search(str(error))
    name = f" “{shorten(plain_name(found[1]))}”" if found else ""
    return (
        f"The name of an object there{name} is no path: it holds “//”, “.” or “..” "
        "between two “/”, or a sign that cannot be seen. Rename or delete it in the "
        "storage, then add the dataset again."
    )


def _explain(error: Exception) -> FetchError:
    status, code = _STATUS.search(str(error)), _CODE.search(str(error))
    if status is None:
        return FetchError("Its storage does not answer.", passes=True)
    word = f" ({code[1]})" if code else ""
    passes = status[1].startswith("5") or status[1] in {"408", "429"}
    if status[1] in {"401", "403"}:
        return FetchError(_NO_ENTRY)
    return FetchError(
        f"Its storage answers {status[1]}{word}.",
        passes=passes,
        is_busy=int(status[1]) in BUSY,
    )
