"""Fixtures that every test may ask for: real databases, a real broker."""

import gc
import shutil
import tempfile
from pathlib import Path

import pytest
import structlog

from shared.database import Database, migrate
from tests.memory_folder import make_memory_folder
from tests.services import Broker, PostgresServer

# As every process of ours does it. Unconfigured, the log draws each traceback with all
# its local variables: measured, 25 s for one.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)


def pytest_addoption(parser):
    """Lets a long run draw more than the suite has time for."""
    parser.addoption(
        "--crash-points",
        type=int,
        default=1,
        help="how often each training of test_drawn_crashes.py is crashed",
    )


def pytest_collection_modifyitems(items):
    """Puts first what takes longest, so that no core idles at the end.

    With `--dist loadgroup --no-loadscope-reorder` that is the order in which groups
    and single tests are given out.
    """
    items.sort(key=_rank)


def _rank(item):
    group = item.get_closest_marker("xdist_group")
    if group:
        # Whole platforms, one after the other: the longest chain of all.
        return 0 if group.args[0] == "platform" else 1
    if item.get_closest_marker("timeout"):
        return 2  # it was given more time because it takes more
    return 3 if "worker" in item.path.parts else 4


def pytest_collection_finish():
    """Leaves what was imported out of every later collection.

    Each build of a model collects (`determinism.start_model`), and walking the objects
    of TensorFlow, Keras and the web takes half a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres():
    """One Postgres server for this test process."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_template(postgres):
    """Name of a migrated, empty database to clone."""
    name = postgres.create_database()
    migrate(postgres.url(name))
    return name


@pytest.fixture(scope="session")
def sqlite_folder():
    """A folder in memory: SQLite waits for the disk at each commit."""
    folder = make_memory_folder("sqlite")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_template(sqlite_folder):
    """Path of a migrated, empty database file to copy."""
    path = sqlite_folder / "template.sqlite"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template):
    """Address of a migrated SQLite database of this test's own."""
    folder = Path(tempfile.mkdtemp(dir=sqlite_template.parent))
    path = folder / "trainyard.sqlite"
    shutil.copyfile(sqlite_template, path)
    yield f"sqlite:///{path}"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres, postgres_template):
    """Address of a migrated Postgres database of this test's own."""
    name = postgres.create_database(postgres_template)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request):
    """Address of a migrated database, once of each kind."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def database(database_url):
    """A migrated database, once of each kind."""
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def sqlite_database(sqlite_url):
    """A migrated SQLite database, for what does not depend on the kind."""
    database = Database(sqlite_url)
    yield database
    database.dispose()


@pytest.fixture(scope="session")
def session_broker():
    """One broker for this test process."""
    broker = Broker()
    yield broker
    broker.close()


@pytest.fixture
def broker(session_broker):
    """A broker, running and empty."""
    if session_broker.process.poll() is not None:
        session_broker.start()
    session_broker.client().flushall()
    return session_broker
