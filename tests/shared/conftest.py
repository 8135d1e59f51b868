"""Somebody, and a dataset version of theirs."""

import pytest

from tests import factories


@pytest.fixture
def owner_id(database):
    with database.transaction() as s:
        return factories.make_user(s).id


@pytest.fixture
def version_id(database, owner_id):
    with database.transaction() as s:
        return factories.make_version(s, owner_id)
