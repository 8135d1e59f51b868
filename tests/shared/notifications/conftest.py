"""Real receivers and a user for the tests of notifications."""

import pytest

from tests import factories
from tests.receivers import HookServer, MailServer
from tests.shared.notifications.posting import (
    Postman,
    make_settings,
)


@pytest.fixture
def hook():
    server = HookServer()
    yield server
    server.close()


@pytest.fixture
def mailbox():
    server = MailServer()
    yield server
    server.close()


@pytest.fixture
def notifier(database, tmp_path):
    return Postman(database, make_settings(tmp_path), first_wait_seconds=0)


@pytest.fixture
def ana(database):
    with database.transaction() as s:
        return factories.make_user(s, email="ana@example.org").id
