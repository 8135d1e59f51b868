"""The audit: found by object and by actor, and never changed."""

import pytest
from sqlalchemy import exc, text

from shared import audit_store
from shared.audit_store import Entry


@pytest.fixture
def lines(database):
    with database.transaction() as s:
        for number in range(3):
            audit_store.record(s, "user:1", "job_moved", "job", number)
        audit_store.record(s, "worker:1", "job_claimed", "job", 1, fence=1)
        audit_store.record(s, "user:2", "queue_paused", "queue", "night")


def find(database, **filters):
    with database.reading() as s:
        return [
            (line.actor, line.event, line.object_id)
            for line in audit_store.list_events(s, **filters).items
        ]


def test_lines_are_found_by_object_and_by_actor(database, lines):
    assert find(database, object_type="job", object_id=1) == [
        ("worker:1", "job_claimed", "1"),
        ("user:1", "job_moved", "1"),
    ]
    assert find(database, object_type="queue") == [("user:2", "queue_paused", "night")]
    assert find(database, actor="user:1", page=2, page_size=2) == [
        ("user:1", "job_moved", "0")
    ]
    assert len(find(database)) == 5


def test_many_lines_are_added_at_once(database):
    entries = [
        Entry("user:1", "job_submitted", "job", n, {"n": n}) for n in range(1100)
    ]

    database.tx(lambda s: audit_store.record_all(s, entries))

    with database.reading() as s:
        found = audit_store.list_events(s, page_size=1)
    assert found.total == 1100
    assert (found.items[0].object_id, found.items[0].detail) == ("1099", {"n": 1099})


@pytest.mark.parametrize(
    "harm", ["UPDATE audit SET actor = 'user:9'", "DELETE FROM audit WHERE id = 1"]
)
def test_the_database_refuses_to_change_a_line(database, lines, harm):
    before = find(database)

    with (
        pytest.raises(exc.DBAPIError, match="append-only"),
        database.transaction() as s,
    ):
        s.execute(text(harm))

    assert find(database) == before
