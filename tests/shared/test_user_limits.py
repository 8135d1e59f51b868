"""What one user may have running and waiting, on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from shared import audit_store, job_store, queue_pause_store, user_limit_store
from shared import reconcile_store as reconciling
from shared.database import Database
from shared.errors import ConflictError, NotFoundError, UserError
from shared.queue_outlook import QueueOutlook
from shared.user_limit_store import UserLimits
from tests import factories
from tests.services import wait_until


@pytest.fixture
def ana(database):
    with database.transaction() as s:
        return factories.make_user(s).id


@pytest.fixture
def bob(database):
    with database.transaction() as s:
        return factories.make_user(s).id


def submit(database, owner_id, count=1, **fields):
    with database.transaction() as s:
        return [factories.make_job(s, owner_id, **fields) for _ in range(count)]


def limit(database, user_id, **limits):
    with database.transaction() as s:
        user_limit_store.set_limits(s, user_id, UserLimits(**limits), actor="user:1")


def claim(database, **fields):
    """The number of the job that a worker gets, or None."""
    with database.transaction() as s:
        claimed = factories.claim(s, **fields)
    return claimed and claimed.job_id


def test_a_user_gets_no_more_workers_than_allowed(database, ana, bob):
    mine, theirs = submit(database, ana, 3), submit(database, bob, 1)
    limit(database, ana, running=1)

    assert [claim(database) for _ in range(4)] == [mine[0], theirs[0], None, None]

    with database.transaction() as s:
        factories.complete(s, mine[0], 1)
    assert claim(database) == mine[1]


def test_the_installation_has_a_usual_limit(database, ana, bob):
    mine, theirs = submit(database, ana, 3), submit(database, bob, 3)
    limit(database, bob, running=2)

    got = [claim(database, max_running_per_user=1) for _ in range(5)]

    assert set(got) == {mine[0], *theirs[:2], None}


def test_reading_datasets_is_not_limited(database, ana):
    submit(database, ana, 2)
    limit(database, ana, running=1)
    reading = submit(database, ana, 2, kind="ingest")

    got = [claim(database) for _ in range(4)]

    assert set(reading) <= set(got)
    assert got.count(None) == 1


def test_claims_at_the_same_moment_do_not_exceed_it(database, ana):
    submit(database, ana, 12)
    limit(database, ana, running=3)
    url = database.url.render_as_string(hide_password=False)
    start = threading.Barrier(6)

    def work(_):
        own = Database(url)
        start.wait()
        got = [own.tx(factories.claim) for _ in range(2)]
        own.dispose()
        return [claimed for claimed in got if claimed]

    with ThreadPoolExecutor(6) as pool:
        got = [claimed for claims in pool.map(work, range(6)) for claimed in claims]

    assert len(got) == 3


def test_nobody_is_rung_for_what_may_not_start(database, ana):
    submit(database, ana, 3)
    claim(database)

    with database.reading() as s:
        assert reconciling.count_claimable(s, ["train"], 1) == 0
        assert reconciling.count_claimable(s, ["train"], 2) == 2


def test_more_than_may_wait_is_refused_whole(database, ana):
    submit(database, ana, 2)
    usual = UserLimits(waiting=3)

    with pytest.raises(ConflictError, match=r"At most 3 trainings .* 2 do, and 2 more"):
        database.tx(lambda s: submit_with_limit(s, ana, 2, usual))

    assert len(database.tx(lambda s: submit_with_limit(s, ana, 1, usual))) == 1
    limit(database, ana, waiting=10)
    assert len(database.tx(lambda s: submit_with_limit(s, ana, 5, usual))) == 5


def test_pausing_some_makes_no_room(database, ana):
    jobs = submit(database, ana, 3)
    for job_id in jobs:
        database.tx(lambda s, n=job_id: job_store.pause(s, n, actor="user:1"))

    with pytest.raises(ConflictError):
        database.tx(lambda s: submit_with_limit(s, ana, 1, UserLimits(waiting=3)))


def submit_with_limit(session, owner_id, count, usual):
    made = [factories.make_job(session, owner_id) for _ in range(count)]
    user_limit_store.require_room(session, owner_id, usual, count)
    return made


def test_submissions_at_the_same_moment_do_not_exceed_it(database, ana):
    url = database.url.render_as_string(hide_password=False)
    start = threading.Barrier(4)

    def work(_):
        own = Database(url)
        start.wait()
        try:
            own.tx(lambda s: submit_with_limit(s, ana, 2, UserLimits(waiting=4)))
        except ConflictError:
            return 0
        finally:
            own.dispose()
        return 2

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 4


@pytest.mark.parametrize("value", [0, -1, 10**9])
def test_odd_limits_are_refused(value):
    with pytest.raises(UserError, match="waiting") as caught:
        UserLimits(waiting=value)
    assert caught.value.field == "waiting"


def test_setting_them_is_on_record(database, ana):
    limit(database, ana, running=2)

    with database.reading() as s:
        (line,) = audit_store.list_events(s, object_type="user", object_id=ana).items
    assert (line.event, line.detail) == ("limits_set", {"running": 2, "waiting": None})
    with pytest.raises(NotFoundError):
        limit(database, 999, running=2)


def test_the_outlook_knows_of_them(database, ana, bob):
    with database.transaction() as s:
        for _ in range(2):
            factories.make_worker(s)
    mine, theirs = submit(database, ana, 2), submit(database, bob)
    limit(database, ana, running=1)

    expected = QueueOutlook(database).look()

    # Nobody knows how long they take, so that ana's second one may start any time.
    assert set(expected) == {mine[0], theirs[0]}


def is_anybody_waiting(database):
    with database.reading() as s:
        query = text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        )
        return s.scalar(query) > 0


def test_no_claim_that_is_under_way_takes_from_a_queue_that_was_paused(postgres_url):
    database, other = Database(postgres_url), Database(postgres_url)
    with database.transaction() as s:
        factories.make_job(s)

    def pause():
        return other.tx(
            lambda s: queue_pause_store.pause(
                s, "default", actor="user:1", running_too=True
            )
        )

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as s:
            claimed = factories.claim(s)
            paused = pool.submit(pause)
            wait_until(lambda: is_anybody_waiting(database), what="the pause to wait")
        # The claim came first, so that its job is among those that are asked to stop.
        assert paused.result() == [claimed.job_id]
    for one in (database, other):
        one.dispose()


def test_retrying_a_submission_is_not_a_second_one(database, ana):
    usual = UserLimits(waiting=1)
    with database.transaction() as s:
        one = factories.make_job(s, ana, idempotency_key="k", model_id=None)
        user_limit_store.require_room(s, ana, usual, 1)

    with database.transaction() as s:
        again = job_store.submit(
            s, owner_id=ana, kind="train", title="a job", idempotency_key="k",
            spec={"training": {"monitor": "val_loss"}},
        )  # fmt: skip
        user_limit_store.require_room(s, ana, usual, int(again.created))

    assert again.job_id == one
