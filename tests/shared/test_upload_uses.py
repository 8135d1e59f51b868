"""Which job has an upload, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import job_store, upload_use_store
from shared.errors import ConflictError
from tests import factories

SPEC = {"sources": [{"type": "archive", "path": "uploads/abc/cells.zip"}]}


def make_ingest(session, owner_id, spec=SPEC):
    dataset_id = factories.make_dataset(session, owner_id).id
    return factories.make_job(
        session, owner_id, kind="ingest", dataset_id=dataset_id, spec=spec
    )


def cancel(database, job_id):
    with database.transaction() as s:
        job_store.cancel(s, job_id, actor="user:1")


def read_uses(database, owner_id):
    with database.reading() as s:
        uses = upload_use_store.list_uses(s, owner_id)
    return uses.taken, uses.let_go


def test_a_cancelled_job_lets_go_until_another_one_takes(database, owner_id):
    with database.transaction() as s:
        first = make_ingest(s, owner_id)
    taken = read_uses(database, owner_id)
    cancel(database, first)
    let_go = read_uses(database, owner_id)
    with database.transaction() as s:
        second = make_ingest(s, owner_id)

    assert taken == ({"abc": first}, {})
    assert let_go == ({}, {"abc": first})
    assert read_uses(database, owner_id) == ({"abc": second}, {})


def test_of_two_that_take_an_upload_at_once_one_does(database, owner_id):
    def take(_):
        def write(session):
            upload_use_store.hold(session, owner_id, ["abc"])
            return make_ingest(session, owner_id)

        try:
            return database.tx(write)
        except ConflictError:
            return None

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(take, range(4)))

    assert len([one for one in made if one]) == 1


def test_of_two_cancelled_jobs_one_can_be_tried_again(database, owner_id):
    jobs = []
    for _ in range(2):
        with database.transaction() as s:
            jobs.append(make_ingest(s, owner_id))
        cancel(database, jobs[-1])

    with database.transaction() as s:
        assert job_store.retry(s, jobs[0], actor="user:1") == "queued"
    with pytest.raises(ConflictError, match=f"belongs to job {jobs[0]}"):
        database.tx(lambda s: job_store.retry(s, jobs[1], actor="user:1"))


def test_what_another_job_may_read_is_needed(database, owner_id):
    with database.transaction() as s:
        first, second = make_ingest(s, owner_id), make_ingest(s, owner_id)

    with database.reading() as s:
        assert upload_use_store.list_needed(s, {first}) == {"abc"}
        assert upload_use_store.list_needed(s, {first, second}) == set()
