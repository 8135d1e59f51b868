"""Engines and transactions: what the two databases promise the stores."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from shared import database as database_module
from shared.database import Database, find_filesystem, read_clock, wal_is_safe
from shared.errors import ConflictError, RetryableError, UserError
from shared.tables import User
from tests import factories


def test_reading_cannot_write(database):
    with pytest.raises(DBAPIError), database.reading() as s:
        factories.make_user(s)


def test_an_error_rolls_everything_back(database):
    def write(s):
        factories.make_user(s, email="a@example.org")
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        database.tx(write)

    with database.reading() as s:
        assert s.scalars(select(User)).all() == []


def test_the_clock_moves_within_a_transaction(database):
    with database.transaction() as s:
        first = read_clock(s)
        time.sleep(0.02)
        assert 15 <= read_clock(s) - first < 5000
        assert abs(first - time.time() * 1000) < 5000


def test_no_update_is_lost_between_threads(database):
    with database.transaction() as s:
        user_id = factories.make_user(s).id
        s.execute(update(User).values(created_at=0))

    def add_one(_):
        def write(s):
            user = s.get(User, user_id, with_for_update=True)
            user.created_at += 1

        for _ in range(10):
            database.tx(write)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add_one, range(6)))

    with database.reading() as s:
        assert s.get(User, user_id).created_at == 60


def test_a_transaction_is_run_again_when_the_connection_is_lost(postgres, postgres_url):
    database = Database(postgres_url)
    tries = []

    def write(s):
        tries.append(s.info["retrying"])
        factories.make_user(s, email="a@example.org")
        if len(tries) == 1:
            pid = s.scalar(text("SELECT pg_backend_pid()"))
            postgres.execute(f"SELECT pg_terminate_backend({pid})")
            s.scalar(text("SELECT 1"))

    database.tx(write)

    assert tries == [False, True]
    with database.reading() as s:
        assert len(s.scalars(select(User)).all()) == 1
    database.dispose()


def test_a_transaction_is_run_again_after_a_deadlock(postgres_url):
    database = Database(postgres_url)
    with database.transaction() as s:
        ids = [factories.make_user(s).id for _ in range(2)]
    both_hold_one = threading.Barrier(2)

    def take(order):
        def write(s):
            s.get(User, order[0], with_for_update=True)
            if not s.info["retrying"]:
                both_hold_one.wait(5)
            s.get(User, order[1], with_for_update=True)
            return s.info["retrying"]

        return database.tx(write)

    with ThreadPoolExecutor(2) as pool:
        retried = list(pool.map(take, (ids, ids[::-1])))

    assert sorted(retried) == [False, True]
    database.dispose()


def test_a_busy_database_is_waited_for(sqlite_url, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 50)
    database = Database(sqlite_url)
    other = sqlite3.connect(
        database.url.database, isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.4, other.execute, ["ROLLBACK"]).start()

    database.tx(factories.make_user)

    with database.reading() as s:
        assert len(s.scalars(select(User)).all()) == 1
    database.dispose()


def test_a_database_that_stays_away_is_given_up(sqlite_url, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 20)
    database = Database(sqlite_url)
    other = sqlite3.connect(database.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(RetryableError, match="database is locked"):
        database.tx(factories.make_user, patience_seconds=0.3)
    other.close()
    database.dispose()


def test_a_full_disk_is_waited_for(sqlite_url):
    database = Database(sqlite_url)
    tries = []

    def write(s):
        tries.append(1)
        pages = 1 if len(tries) == 1 else 2**30
        s.connection().exec_driver_sql(f"PRAGMA max_page_count={pages}")
        for _ in range(200):
            factories.make_user(s)

    database.tx(write)

    assert len(tries) == 2
    database.dispose()


def test_a_statement_that_timed_out_is_run_again(postgres_url):
    database = Database(postgres_url)
    tries = []

    def write(s):
        tries.append(1)
        if len(tries) == 1:
            s.execute(text("SET LOCAL statement_timeout = 50"))
            s.execute(text("SELECT pg_sleep(5)"))

    database.tx(write)

    assert len(tries) == 2
    database.dispose()


@pytest.mark.parametrize("state", ["53100", "53200", "53300", "58030", "08006"])
def test_a_server_short_of_something_is_waited_for(state):
    cause = psycopg.errors.lookup(state)("short")

    assert database_module.is_retryable(OperationalError("x", None, cause))


def test_an_error_of_our_own_is_not_tried_again(database):
    tries = []

    def write(s):
        tries.append(1)
        for _ in range(2):
            s.add(User(email="a", role="member", session_key="same", created_at=0))
        s.flush()

    with pytest.raises(IntegrityError):
        database.tx(write)
    assert tries == [1]


def test_ping_says_when_nobody_answers(tmp_path):
    database = Database(f"postgresql+psycopg://x@/x?host={tmp_path}")

    with pytest.raises(RetryableError, match="does not answer"):
        database.ping()


def test_ping_returns_when_the_database_answers(database):
    database.ping()


def test_the_settings_of_a_sqlite_connection(sqlite_url):
    database = Database(sqlite_url)
    with database.transaction() as s:
        wanted = {"synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
        for pragma, value in wanted.items():
            assert s.scalar(text(f"PRAGMA {pragma}")) == value
        safe = wal_is_safe(sqlite3.sqlite_version_info)
        assert s.scalar(text("PRAGMA journal_mode")) == ("wal" if safe else "truncate")
    database.dispose()


def test_nobody_else_can_read_a_sqlite_database(tmp_path):
    Database(f"sqlite:///{tmp_path}/new/x.sqlite")

    assert (tmp_path / "new" / "x.sqlite").stat().st_mode & 0o077 == 0


def test_the_settings_of_a_postgres_connection(postgres_url):
    database = Database(postgres_url)
    with database.transaction() as s:
        assert s.scalar(text("SHOW statement_timeout")) == "10s"
        assert s.scalar(text("SHOW lock_timeout")) == "5s"
        assert s.scalar(text("SHOW idle_in_transaction_session_timeout")) == "15s"
        assert s.scalar(text("SHOW transaction_isolation")) == "read committed"
    database.dispose()


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 49, 2), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
    ],
)
def test_wal_is_used_only_where_it_cannot_corrupt(version, safe):
    assert wal_is_safe(version) is safe


def test_the_file_system_of_a_path_is_that_of_the_innermost_mount():
    mounts = (
        "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "40 22 0:35 / /srv/my\\040data rw,relatime shared:1 - nfs4 box:/x rw\n"
    )

    assert find_filesystem(Path("/srv/my data/x"), mounts) == "nfs4"
    assert find_filesystem(Path("/srv/other"), mounts) == "ext4"


def test_sqlite_is_refused_on_a_network_file_system(tmp_path, monkeypatch):
    monkeypatch.setattr(database_module, "find_filesystem", lambda *_: "nfs4")

    with pytest.raises(UserError, match="cannot be trusted on a network file system"):
        Database(f"sqlite:///{tmp_path}/x.sqlite")


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://"])
def test_other_databases_are_refused(url):
    with pytest.raises(UserError, match="database_url"):
        Database(url)


def test_an_unknown_error_of_the_driver_is_not_retryable():
    error = OperationalError("x", None, sqlite3.OperationalError("no such table"))

    assert not database_module.is_retryable(error)
