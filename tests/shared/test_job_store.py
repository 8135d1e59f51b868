"""What users ask of jobs, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import audit_store, job_read_store, job_store
from shared.errors import ConflictError, NotFoundError, UserError
from tests import factories


@pytest.fixture
def job_id(database, owner_id):
    with database.transaction() as s:
        return factories.make_job(s, owner_id)


def get_job(database, job_id):
    with database.reading() as s:
        return job_read_store.get_job(s, job_id)


def submit(database, owner_id, key="k", **fields):
    values = {"kind": "train", "title": "t", "spec": {"a": 1}, **fields}
    return database.tx(
        lambda s: job_store.submit(s, owner_id=owner_id, idempotency_key=key, **values)
    )


def test_the_same_key_makes_one_job(database, owner_id):
    first, second = submit(database, owner_id), submit(database, owner_id)

    assert first.created
    assert not second.created
    assert second.job_id == first.job_id


def test_the_same_key_for_something_else_is_a_conflict(database, owner_id):
    submit(database, owner_id)

    with pytest.raises(ConflictError, match="used for another request"):
        submit(database, owner_id, spec={"a": 2})
    with pytest.raises(ConflictError):
        submit(database, owner_id, priority=5)


def test_two_owners_may_use_the_same_key(database, owner_id):
    with database.transaction() as s:
        other = factories.make_user(s).id

    assert submit(database, other).job_id != submit(database, owner_id).job_id


def test_twenty_threads_with_one_key_make_one_job(database, owner_id):
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: submit(database, owner_id), range(20)))

    assert len({answer.job_id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1


def test_submit_refuses_values_out_of_range(database, owner_id):
    with pytest.raises(UserError, match="`priority` must be -100 to 100"):
        submit(database, owner_id, priority=101)
    with pytest.raises(UserError, match="`kind` must be one of"):
        submit(database, owner_id, kind="dance")


def test_submit_refuses_a_dataset_that_is_gone(database, owner_id):
    with pytest.raises(NotFoundError, match="no dataset 77"):
        submit(database, owner_id, dataset_id=77)


def test_a_waiting_job_is_cancelled_at_once(database, job_id):
    assert database.tx(lambda s: job_store.cancel(s, job_id, actor="user:1")) == (
        "cancelled"
    )
    assert get_job(database, job_id).ended_at is not None


def test_a_running_job_is_asked_to_stop(database, job_id):
    with database.transaction() as s:
        factories.claim(s)

    state = database.tx(lambda s: job_store.cancel(s, job_id, actor="user:1"))

    assert state == "running"
    assert get_job(database, job_id).desired == "cancel"


def test_nothing_overwrites_a_cancellation(database, job_id):
    with database.transaction() as s:
        factories.claim(s)
        job_store.cancel(s, job_id, actor="user:1")

    for ask in (job_store.pause, job_store.resume, job_store.finish_now):
        with pytest.raises(ConflictError, match=r"running \(cancel\)"):
            database.tx(lambda s, ask=ask: ask(s, job_id, actor="user:1"))


def test_pause_and_resume_a_waiting_job(database, job_id):
    with database.transaction() as s:
        assert job_store.pause(s, job_id, actor="user:1") == "paused"
    with database.transaction() as s:
        assert factories.claim(s) is None
        assert job_store.resume(s, job_id, actor="user:1") == "queued"
        assert factories.claim(s).job_id == job_id


def test_an_ended_job_cannot_be_cancelled(database, job_id):
    with database.transaction() as s:
        claim = factories.claim(s)
        factories.complete(s, job_id, claim.fence)

    with pytest.raises(ConflictError, match="is succeeded; only a job that is"):
        database.tx(lambda s: job_store.cancel(s, job_id, actor="user:1"))


def test_retry_begins_with_fresh_budgets_and_the_same_fence(database, job_id):
    with database.transaction() as s:
        claim = factories.claim(s)
        factories.checkpoint(s, job_id, claim.fence, 5)
        job_store.cancel(s, job_id, actor="user:1")
        factories.attempt_store.end(
            s, job_id, claim.fence, outcome="cancelled", charge=False
        )
    with database.transaction() as s:
        assert job_store.retry(s, job_id, actor="user:1") == "queued"

    job = get_job(database, job_id)
    assert (job.desired, job.fence, job.attempts, job.last_step) == ("run", 1, 0, 5)


def test_retry_from_scratch_forgets_the_checkpoints(database, job_id):
    with database.transaction() as s:
        claim = factories.claim(s)
        factories.checkpoint(s, job_id, claim.fence, 5)
        factories.attempt_store.end(
            s, job_id, claim.fence, outcome="failed", charge=True, permanent=True
        )
    with database.transaction() as s:
        job_store.retry(s, job_id, actor="user:1", from_scratch=True)
        again = factories.claim(s)

    assert (again.lineage, again.last_step, again.fence) == (1, 0, 2)
    with database.reading() as s:
        assert not factories.attempt_store.list_resume_checkpoints(s, job_id, 1)


def test_priority_decides_and_can_be_changed(database, owner_id):
    with database.transaction() as s:
        first, second = (factories.make_job(s, owner_id) for _ in range(2))
        job_store.set_priority(s, second, 5, "user:1")

    with database.transaction() as s:
        assert factories.claim(s).job_id == second
        assert factories.claim(s).job_id == first


def test_a_second_owner_need_not_wait_for_all_jobs_of_the_first(database, owner_id):
    with database.transaction() as s:
        many = [factories.make_job(s, owner_id) for _ in range(4)]
        other = factories.make_job(s)
        order = [factories.claim(s).job_id for _ in range(5)]

    assert order.index(other) == 1
    assert [job_id for job_id in order if job_id != other] == many


def test_every_request_is_on_record(database, job_id):
    with database.transaction() as s:
        job_store.pause(s, job_id, actor="user:7")
        job_store.resume(s, job_id, actor="user:8")

    with database.reading() as s:
        found = audit_store.list_events(s, object_type="job", object_id=job_id)
    assert [(e.event, e.actor) for e in found.items[:2]] == [
        ("job_resumed", "user:8"),
        ("job_pause_asked", "user:7"),
    ]


def test_a_request_whose_answer_was_lost_is_not_refused(database, job_id):
    with database.transaction() as s:
        job_store.pause(s, job_id, actor="user:1")

    with database.transaction() as s:
        s.info["retrying"] = True
        assert job_store.pause(s, job_id, actor="user:1") == "paused"
    with pytest.raises(ConflictError, match="is paused"):
        database.tx(lambda s: job_store.retry(s, job_id, actor="user:1"))


def test_only_an_ended_job_can_be_deleted(database, job_id):
    with database.transaction() as s:
        claim = factories.claim(s)
        factories.checkpoint(s, job_id, claim.fence, 5)
    with pytest.raises(ConflictError, match="cancel it first"):
        database.tx(lambda s: job_store.delete_job(s, job_id, actor="user:1"))
    with database.transaction() as s:
        factories.complete(s, job_id, claim.fence)

    plan = database.tx(lambda s: job_store.delete_job(s, job_id, actor="user:1"))

    assert plan.paths == [f"jobs/{job_id}"]
    assert (plan.counts["checkpoints"], plan.size_bytes) == (1, 10)
    assert "version 1" in plan.stays[0]
    with pytest.raises(NotFoundError):
        get_job(database, job_id)


def test_the_number_of_a_deleted_job_is_never_given_again(database, job_id):
    with database.transaction() as s:
        job_store.cancel(s, job_id, actor="user:1")
        job_store.delete_job(s, job_id, actor="user:1")

    with database.transaction() as s:
        assert factories.make_job(s) > job_id
