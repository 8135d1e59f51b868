"""Fixtures of tests that run whole workers."""

import pytest

from shared.database import Database
from tests.services import Broker
from tests.worker.fleet import Fleet
from tests.worker.workshop import Workshop


@pytest.fixture
def shop(sqlite_url, tmp_path):
    database = Database(sqlite_url)
    yield Workshop(database, tmp_path / "data")
    database.dispose()


@pytest.fixture
def make_fleet(sqlite_url, tmp_path):
    broker = Broker()
    database = Database(sqlite_url)
    fleets = []

    def make(*, use_database=database, **timers):
        fleets.append(Fleet(use_database, tmp_path / "data", broker, **timers))
        return fleets[-1]

    yield make
    for each in fleets:
        each.close()
    database.dispose()
    broker.close()


@pytest.fixture
def fleet(make_fleet):
    return make_fleet()
