"""A job that got nowhere on one worker is left to others, for as long as there are any.

A slot that fails every job would otherwise spend the whole budget of one, and be found
out only by the third.
"""

import pytest
from sqlalchemy import update

from shared import attempt_store, worker_store
from shared.tables import Job, Worker
from tests import factories


@pytest.fixture
def workers(database):
    """The numbers of the worker that failed, and of another one."""
    with database.transaction() as session:
        return factories.make_worker(session), factories.make_worker(session)


@pytest.fixture
def fail(database, workers):
    """Makes a job and fails an attempt of it on the first worker; its number."""

    def do(**how):
        values = {"outcome": "crash", "charge": True, "backoff_ms": 0, **how}
        with database.transaction() as session:
            job_id = factories.make_job(session)
            claim = factories.claim(session, worker_id=workers[0])
            if how.pop("progress", False):
                values.pop("progress")
                factories.checkpoint(session, job_id, claim.fence, 5)
            attempt_store.end(session, job_id, claim.fence, **values)
        return job_id

    return do


def claim(database, worker_id, **fields):
    with database.transaction() as session:
        found = factories.claim(session, worker_id=worker_id, **fields)
    return found and found.job_id


def test_another_worker_gets_it(database, workers, fail):
    job_id = fail()

    assert claim(database, workers[0]) is None
    assert claim(database, workers[1]) == job_id


def test_the_same_worker_gets_it_when_the_others_had_their_time(
    database, workers, fail
):
    job_id = fail()
    with database.transaction() as session:
        session.execute(update(Job).values(not_before=Job.not_before - 61_000))

    assert claim(database, workers[0], lease_ms=60_000) == job_id


def test_a_later_job_does_not_wait_behind_it(database, workers, fail):
    fail()
    with database.transaction() as session:
        later = factories.make_job(session)

    assert claim(database, workers[0]) == later


@pytest.mark.parametrize(
    "how",
    [
        {"outcome": "preempted", "charge": False},
        {"outcome": "crash", "charge": True, "progress": True},
    ],
)
def test_what_was_no_failure_of_the_slot_is_taken_again(database, workers, fail, how):
    job_id = fail(**how)

    assert claim(database, workers[0]) == job_id


@pytest.mark.parametrize(
    "change",
    [
        {"status": worker_store.DRAINING},
        {"status": worker_store.QUARANTINED},
        {"kinds": ["ingest"]},
        {"queues": ["another"]},
        {"seen_at": 0},
    ],
)
def test_a_worker_alone_takes_its_own_failures(database, workers, fail, change):
    job_id = fail()
    with database.transaction() as session:
        session.execute(update(Worker).where(Worker.id == workers[1]).values(**change))

    assert claim(database, workers[0], kinds=["train"]) == job_id
