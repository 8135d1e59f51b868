"""Paused queues, on both databases."""

import pytest
from sqlalchemy import select

from shared import (
    attempt_store,
    job_read_store,
    job_store,
    queue_pause_store,
    reconcile_store,
)
from shared.errors import UserError
from shared.queue_outlook import QueueOutlook
from shared.tables import Audit
from tests import factories


@pytest.fixture
def jobs(database):
    """A job in each of two queues."""
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        return [factories.make_job(s, owner_id, queue=n) for n in ("day", "night")]


def pause(database, name="day", **more):
    return database.tx(
        lambda s: queue_pause_store.pause(s, name, actor="user:1", **more)
    )


def resume(database, name="day", **more):
    return database.tx(
        lambda s: queue_pause_store.resume(s, name, actor="user:1", **more)
    )


def claim(database):
    return database.tx(lambda s: factories.claim(s, queues=["day", "night"]))


def test_nothing_is_claimed_from_a_paused_queue_until_it_is_resumed(database, jobs):
    pause(database)

    assert claim(database).job_id == jobs[1]
    assert claim(database) is None
    assert database.tx(lambda s: factories.claim(s, queues=["day"])) is None

    resume(database)
    assert claim(database).job_id == jobs[0]


def test_nobody_rings_or_expects_anything_of_it(database, jobs):
    with database.transaction() as s:
        factories.make_worker(s, queues=["day", "night"])
    pause(database)

    with database.reading() as s:
        assert reconcile_store.count_claimable(s, ["train"]) == 1
    assert set(QueueOutlook(database).look()) == {jobs[1]}


def test_queues_are_listed_with_what_is_in_them(database, jobs):
    with database.transaction() as s:
        factories.make_worker(s, queues=["night", "spare"])
        job_store.pause(s, jobs[0], actor="user:1")
    pause(database, "night")
    pause(database, "empty")

    with database.reading() as s:
        found = {q.name: q for q in queue_pause_store.list_queues(s)}

    assert list(found) == ["day", "default", "empty", "night", "spare"]
    counts = {n: (q.queued, q.running, q.paused, q.workers) for n, q in found.items()}
    assert counts["day"] == (0, 0, 1, 0)
    assert counts["night"] == (1, 0, 0, 1)
    assert counts["spare"] == (0, 0, 0, 1)
    assert [n for n, q in found.items() if q.paused_at] == ["empty", "night"]


def test_running_jobs_stop_with_it_and_come_back_with_it(database, jobs):
    running = claim(database)
    assert running.job_id == jobs[0]

    assert pause(database, running_too=True) == [jobs[0]]
    assert pause(database, running_too=True) == [], "asked already"
    assert resume(database, paused_too=True) == [jobs[0]]
    pause(database)
    with database.transaction() as s:
        job_store.pause(s, jobs[0], actor="user:1")
        attempt_store.end(
            s, jobs[0], running.fence, outcome="paused", charge=False, backoff_ms=0
        )
    assert resume(database, paused_too=True) == [jobs[0]]
    with database.reading() as s:
        assert job_read_store.get_job(s, jobs[0]).state == "queued"


def test_what_happens_twice_is_on_record_once(database, jobs):
    for _ in range(2):
        pause(database)
    for _ in range(2):
        resume(database)

    with database.reading() as s:
        lines = s.scalars(select(Audit).where(Audit.object_type == "queue")).all()
    assert [(x.event, x.object_id) for x in lines] == [
        ("queue_paused", "day"),
        ("queue_resumed", "day"),
    ]


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_name_that_no_queue_has_is_refused(database, name):
    with pytest.raises(UserError, match="1 to 64 characters"):
        pause(database, name)
