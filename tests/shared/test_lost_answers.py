"""The answer to a COMMIT gets lost: what was done is done once, and known again.

A connection that dies after the server has committed, and before the client hears of
it, looks just like one that dies before. Each write of the protocol is run again then,
and must come to the same end as if nothing had happened.
"""

import uuid

import pytest
from sqlalchemy import func, make_url, select

from shared import attempt_store, job_store, model_store
from shared.database import Database
from shared.tables import Audit, Checkpoint, Job, Metric, ModelVersion
from tests import factories
from tests.proxy import Proxy


@pytest.fixture
def proxy(postgres, postgres_url):
    proxy = Proxy(postgres.socket)
    yield proxy
    proxy.close()


@pytest.fixture
def far(proxy, postgres_url):
    """The database as a worker on another host reaches it: over TCP."""
    url = make_url(postgres_url)
    address = f"postgresql+psycopg://{url.username}@127.0.0.1:{proxy.port}"
    database = Database(f"{address}/{url.database}")
    yield database
    database.dispose()


@pytest.fixture
def lose(far, proxy):
    """Runs a transaction whose first COMMIT succeeds and is not answered."""

    def run(change):
        far.ping()
        proxy.lose_answer_to(b"COMMIT\0")  # and not BEGIN ... READ COMMITTED
        answer = far.tx(change)
        assert proxy.lost == 1
        return answer

    return run


@pytest.fixture
def claim(far):
    with far.transaction() as s:
        factories.make_job(s)
        return factories.claim(s)


def count(database, table, *conditions):
    with database.reading() as s:
        return s.scalar(select(func.count()).select_from(table).where(*conditions))


def test_job_is_submitted_once(far, lose):
    with far.transaction() as s:
        owner_id = factories.make_user(s).id
        model_id = factories.make_model(s, owner_id).id
    key = uuid.uuid4().hex

    job_id = lose(
        lambda s: factories.make_job(
            s, owner_id, model_id=model_id, idempotency_key=key
        )
    )

    assert count(far, Job) == count(far, Job, Job.id == job_id) == 1


def test_job_is_claimed_once(far, lose):
    with far.transaction() as s:
        jobs = [factories.make_job(s) for _ in range(2)]
    attempt_uuid = uuid.uuid4().hex

    claim = lose(lambda s: factories.claim(s, attempt_uuid=attempt_uuid))

    assert (claim.job_id, claim.fence) == (jobs[0], 1)
    assert count(far, Job, Job.state == "running") == 1


def test_checkpoint_and_its_metrics_are_kept_once(far, lose, claim):
    def write(s):
        factories.checkpoint(s, claim.job_id, claim.fence, 7)
        point = attempt_store.MetricPoint("loss", 1, 7, 0.5)
        attempt_store.add_metrics(s, claim.job_id, claim.fence, [point])

    lose(write)

    assert (count(far, Checkpoint), count(far, Metric)) == (1, 1)


def test_version_is_published_once(far, lose, claim):
    done = lose(lambda s: factories.complete(s, claim.job_id, claim.fence))

    assert (done.version, done.already) == (1, True)
    assert count(far, ModelVersion) == 1
    with far.reading() as s:
        version = model_store.find_version_of_job(s, claim.job_id)
        assert model_store.get_model(s, version.model_id).last_version == 1


def test_attempt_is_ended_and_charged_once(far, lose, claim):
    state = lose(
        lambda s: attempt_store.end(
            s, claim.job_id, claim.fence, outcome="crash", charge=True
        )
    )

    assert state == "queued"
    with far.reading() as s:
        assert s.get_one(Job, claim.job_id).noprog == 1
    assert count(far, Audit, Audit.event == "attempt_ended") == 1


@pytest.mark.parametrize(
    ("request_of_user", "state"),
    [(job_store.cancel, "running"), (job_store.pause, "running")],
)
def test_request_of_a_user_is_not_refused_by_its_own_effect(
    lose, claim, request_of_user, state
):
    answer = lose(lambda s: request_of_user(s, claim.job_id, actor="user:1"))

    assert answer == state
