"""The way to the records: engines, transactions and their retry, one clock.

Every process that touches the records does it through a `Database`. Stores take the
session that `transaction()`, `reading()` or `tx()` hands out, and never commit.
"""

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import structlog
from sqlalchemy import (
    URL,
    BigInteger,
    Engine,
    create_engine,
    event,
    exc,
    make_url,
    select,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from shared.errors import RetryableError, UserError
from shared.settings import get_settings

log = structlog.get_logger()
Result = TypeVar("Result")

TX_PATIENCE_SECONDS = 20.0  # longest time `tx` goes on trying
BUSY_TIMEOUT_MS = 10_000  # how long SQLite waits for another writer

POSTGRES_CONNECT_ARGS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    # The system's own are 75 s and 9: a vanished server would be noticed after minutes.
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": "-c statement_timeout=10000 -c lock_timeout=5000 "
    "-c idle_in_transaction_session_timeout=15000",
}
# Serialization failure, deadlock, lock and statement timeouts, and the ways in which a
# server says that it is going down or coming up.
RETRYABLE_SQLSTATES = frozenset(
    {"40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "25P03"}
)
# A lost connection, a server short of connections, memory or disk, a failing disk: all
# of it may be mended while a training goes on.
RETRYABLE_CLASSES = ("08", "53", "58")
# Busy, locked, input/output error, disk full.
RETRYABLE_SQLITE_CODES = frozenset({5, 6, 10, 13})

NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs"}
    | {"glusterfs", "beegfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs"}
    | {"fuse.rclone", "fuse.gcsfuse"}
)


class now_ms(FunctionElement[int]):  # noqa: N801 - reads as the SQL function it is
    """Milliseconds since 1970 by the database's clock, fresh in every statement.

    Never PostgreSQL's `now()`, which stands still from the transaction's start.
    """

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "postgresql")
def _postgres_now(_element: Any, _compiler: Any, **_kw: Any) -> str:
    return "(extract(epoch from clock_timestamp())*1000)::bigint"


@compiles(now_ms, "sqlite")
def _sqlite_now(_element: Any, _compiler: Any, **_kw: Any) -> str:
    return "CAST((julianday('now')-2440587.5)*86400000 AS INTEGER)"


def read_clock(session: Session) -> int:
    """Returns the database's time, in milliseconds since 1970."""
    return session.execute(select(now_ms())).scalar_one()


class Database:
    """One database, by its SQLAlchemy address (SQLite or PostgreSQL).

    Args:
        url: `sqlite:///<absolute path>` or `postgresql+psycopg://...`.

    Raises:
        UserError: For any other database, or SQLite on a network file system.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.dialect = self.url.get_backend_name()
        if self.dialect == "sqlite":
            self._writer, self._reader = _build_sqlite_engines(self.url)
        elif self.dialect == "postgresql":
            self._writer = _build_postgres_engine(self.url)
            self._reader = self._writer.execution_options(postgresql_readonly=True)
        else:
            raise UserError(
                "`database_url` must be sqlite:///... or postgresql+psycopg://... "
                f"Received: {self.url.render_as_string(hide_password=True)}",
                field="database_url",
            )

    @property
    def engine(self) -> Engine:
        """The engine that writes."""
        return self._writer

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """Opens a writing transaction; commits at the end, rolls back on error."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """Opens a session that can only read."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    def tx(
        self,
        function: Callable[[Session], Result],
        *,
        patience_seconds: float = TX_PATIENCE_SECONDS,
    ) -> Result:
        """Runs `function` in a transaction, again from its start while that helps.

        It is run again after a lost connection, a serialization failure, a deadlock,
        a timeout, a busy database or a full disk, also when the answer to a COMMIT got
        lost. So `function` must be idempotent; in later runs
        `session.info["retrying"]` is True.

        Args:
            function: Takes the session; touches nothing but the database.
            patience_seconds: No new try begins after this long.

        Raises:
            RetryableError: When the database stayed away for `patience_seconds`.
        """
        deadline = time.monotonic() + patience_seconds
        tries = 0
        while True:
            try:
                with self.transaction() as session:
                    session.info["retrying"] = tries > 0
                    return function(session)
            except (exc.DBAPIError, exc.TimeoutError) as error:
                tries += 1
                if not is_retryable(error):
                    raise
                pause_seconds = random.uniform(0.5, 1) * min(0.05 * 2**tries, 2)  # noqa: S311
                if time.monotonic() + pause_seconds > deadline:
                    raise RetryableError(
                        f"The database could not be used: {_first_line(error)}"
                    ) from error
                log.warning("transaction_retried", tries=tries, why=_first_line(error))
                time.sleep(pause_seconds)

    def ping(self) -> None:
        """Returns when the database answers.

        Raises:
            RetryableError: When it does not.
        """
        try:
            with self.reading() as session:
                session.execute(text("SELECT 1"))
        except (exc.DBAPIError, exc.TimeoutError) as error:
            raise RetryableError(
                f"The database does not answer: {_first_line(error)}"
            ) from error

    def dispose(self) -> None:
        """Closes every idle connection."""
        self._writer.dispose()
        self._reader.dispose()


@lru_cache(maxsize=1)
def get_database() -> Database:
    """Returns this process's database, as the settings name it."""
    return Database(get_settings().database_address)


def is_retryable(error: Exception) -> bool:
    """Whether the same transaction may well succeed when it is run again."""
    if isinstance(error, exc.TimeoutError):
        return True  # the pool had no free connection
    if not isinstance(error, exc.DBAPIError):
        return False
    cause = error.orig
    if isinstance(cause, sqlite3.OperationalError):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        return code in RETRYABLE_SQLITE_CODES
    if isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None:
        return True  # the server never answered
    state = getattr(cause, "sqlstate", None) or ""
    known = state in RETRYABLE_SQLSTATES or state.startswith(RETRYABLE_CLASSES)
    return error.connection_invalidated or known


def migrate(url: str) -> None:
    """Brings the schema of the database at `url` to the newest revision.

    Safe to run in two processes at once: the second waits and finds nothing to do.
    """
    from shared.migrations import upgrade  # noqa: PLC0415 - Alembic only where used

    database = Database(url)
    try:
        upgrade(database)
    finally:
        database.dispose()  # a connection left open forbids cloning this database


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Whether SQLite `version` is free of the race that can corrupt a WAL database.

    Source: https://sqlite.org/wal.html#walresetbug (fixed in 3.51.3, with backports
    to 3.44.6 and 3.50.7).
    """
    backports: dict[tuple[int, ...], int] = {(3, 44): 6, (3, 50): 7}
    if version[:2] in backports:
        return version[2] >= backports[version[:2]]
    return version >= (3, 51, 3)


def find_filesystem(path: Path, mounts: str) -> str:
    """Returns the type of the file system that holds `path`, or an empty text.

    Args:
        path: Absolute.
        mounts: The text of `/proc/self/mountinfo`.
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace(r"\040", " ")
        if path.is_relative_to(point) and len(point) > best:
            best, kind = len(point), after.split()[0]
    return kind


def _build_postgres_engine(url: URL) -> Engine:
    return create_engine(
        url,
        connect_args=POSTGRES_CONNECT_ARGS,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=10,
        pool_timeout=10,
        isolation_level="READ COMMITTED",
    )


def _build_sqlite_engines(url: URL) -> tuple[Engine, Engine]:
    if not url.database or url.database == ":memory:":
        raise UserError(
            "`database_url` must name a file: several processes share it.",
            field="database_url",
        )
    _prepare_sqlite_file(Path(url.database).absolute())
    options: dict[str, Any] = {
        "connect_args": {"timeout": BUSY_TIMEOUT_MS / 1000},
        "pool_size": 5,
        "max_overflow": 20,
        "pool_timeout": 10,
    }
    writer, reader = create_engine(url, **options), create_engine(url, **options)
    event.listen(writer, "connect", _set_up_sqlite)
    event.listen(reader, "connect", _set_up_sqlite_reader)
    # Python's driver sends BEGIN too late for a read followed by a write: measured,
    # 682 of 900 such transactions lost their update. So BEGIN is ours to send.
    event.listen(writer, "begin", _begin_immediate)
    event.listen(reader, "begin", _begin_deferred)
    return writer, reader


def _prepare_sqlite_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mounts = Path("/proc/self/mountinfo")
    if mounts.exists():
        kind = find_filesystem(path.parent.resolve(), mounts.read_text())
        if kind in NETWORK_FILESYSTEMS:
            raise UserError(
                f"SQLite cannot be trusted on a network file system: {path} is on "
                f"{kind}. Put the data folder on a local disk, or use PostgreSQL.",
                field="database_url",
            )
    # It holds password hashes: nobody but the owner reads it.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver shall send no BEGIN of its own
    journal = "WAL" if wal_is_safe(sqlite3.sqlite_version_info) else "TRUNCATE"
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        f"journal_mode={journal}",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _set_up_sqlite_reader(connection: Any, record: Any) -> None:
    _set_up_sqlite(connection, record)
    connection.execute("PRAGMA query_only=ON")


def _begin_immediate(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
