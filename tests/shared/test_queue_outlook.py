"""What is expected of waiting jobs, kept promises, on both databases."""

import pytest
from sqlalchemy import update

from shared import attempt_store, job_store, promise_store, worker_store
from shared.database import read_clock
from shared.presets import build_training_spec
from shared.queue_outlook import FRESH_SECONDS, LEARN_SECONDS, QueueOutlook
from shared.reconciler import Reconciler
from shared.settings import Settings
from shared.sql_dialect import AT_ONCE
from shared.tables import Attempt, DatasetVersion, Job, Worker
from tests import factories
from tests.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def place(database):
    """An installation with a dataset of 1,000 images and one worker."""
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        dataset_id = factories.make_dataset(s, owner_id).id
        version = DatasetVersion(
            dataset_id=dataset_id, version=1, job_id=0, fingerprint="f", rel_path="d",
            images=1000, size_bytes=1, report={}, created_at=0,
        )  # fmt: skip
        s.add(version)
        s.flush()
        worker_id = factories.make_worker(s)
        return {
            "owner_id": owner_id, "dataset_id": dataset_id, "worker_id": worker_id,
            "dataset_version_id": version.id,
        }  # fmt: skip


def submit(database, place, preset="fast", **more):
    spec = {"training": build_training_spec(preset).model_dump(mode="json")}
    with database.transaction() as s:
        return factories.make_job(
            s, place["owner_id"], spec=spec, dataset_id=place["dataset_id"],
            dataset_version_id=place["dataset_version_id"], **more,
        )  # fmt: skip


def finish(database, place, seconds, **more):
    """A job that has taken so many seconds on the worker."""
    job_id = submit(database, place, **more)
    claim = database.tx(lambda s: factories.claim(s, worker_id=place["worker_id"]))
    assert claim.job_id == job_id
    with database.transaction() as s:
        factories.complete(s, job_id, claim.fence)
        s.execute(update(Job).where(Job.id == job_id).values(running_ms=1000 * seconds))
    return job_id


def look(database, clock):
    """What is expected, in seconds from the first start, by job."""
    expected = QueueOutlook(database, clock).look()
    first = min((e.starts_at for e in expected.values()), default=0)
    return {
        job: (
            round((e.starts_at - first) / 1000),
            None if e.ends_at is None else round((e.ends_at - first) / 1000),
        )
        for job, e in expected.items()
    }


def test_before_anything_has_finished_only_the_next_start_is_told(
    database, clock, place
):
    jobs = [submit(database, place) for _ in range(2)]

    assert look(database, clock) == {jobs[0]: (0, None)}


def test_jobs_follow_each_other_in_the_time_that_others_took(database, clock, place):
    finish(database, place, 60)
    jobs = [submit(database, place) for _ in range(3)]

    expected = look(database, clock)

    assert expected == {jobs[0]: (0, 60), jobs[1]: (60, 120), jobs[2]: (120, 180)}


def test_a_running_job_is_waited_for(database, clock, place):
    finish(database, place, 600)
    running, waiting = submit(database, place), submit(database, place)
    claim = database.tx(lambda s: factories.claim(s, worker_id=place["worker_id"]))
    with database.transaction() as s:
        s.execute(
            update(Attempt)
            .where(Attempt.job_id == running)
            .values(started_at=Attempt.started_at - 400_000)
        )

    expected = QueueOutlook(database, clock).look()[waiting]
    with database.reading() as s:
        started_at = s.get_one(Attempt, (running, claim.fence)).started_at
    assert expected.starts_at == pytest.approx(started_at + 600_000, abs=2000)

    with database.transaction() as s:  # its phase alone takes longer than that
        attempt_store.record_progress(
            s, running, claim.fence, phase="fine_tune", done=1, total=9, unit="steps",
            eta_seconds=5000,
        )  # fmt: skip
    later = QueueOutlook(database, clock).look()[waiting]
    assert later.starts_at > started_at + 5_000_000


@pytest.mark.parametrize(
    "change",
    [
        {"status": worker_store.QUARANTINED},
        {"status": worker_store.DRAINING},
        {"seen_at": 0},
        {"queues": ["other"]},
        {"kinds": ["ingest"]},
    ],
)
def test_workers_that_take_no_such_jobs_do_not_count(database, clock, place, change):
    finish(database, place, 60)
    submit(database, place)
    with database.transaction() as s:
        s.execute(
            update(Worker).where(Worker.id == place["worker_id"]).values(**change)
        )

    assert look(database, clock) == {}


def test_it_is_remembered_for_a_moment_and_then_looked_at_again(database, clock, place):
    finish(database, place, 60)
    first = submit(database, place)
    outlook = QueueOutlook(database, clock)
    assert set(outlook.look()) == {first}

    second = submit(database, place)
    assert set(outlook.look()) == {first}
    clock.now += FRESH_SECONDS
    assert set(outlook.look()) == {first, second}

    finish_other = submit(database, place, priority=9)
    claim = database.tx(lambda s: factories.claim(s, worker_id=place["worker_id"]))
    with database.transaction() as s:
        factories.complete(s, finish_other, claim.fence)
        s.execute(update(Job).values(running_ms=600_000))
    clock.now += LEARN_SECONDS
    expected = outlook.look()[second]
    assert expected.ends_at - expected.starts_at == 600_000


@pytest.fixture
def reconciler(database, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(Reconciler, "_ring", lambda _self: None)  # no broker here
    return Reconciler(database, Settings(data_dir=tmp_path), clock)


def kept(database):
    with database.reading() as s:
        return promise_store.list_kept(s)


def test_what_was_promised_first_is_kept_and_compared(
    database, clock, place, reconciler
):
    finish(database, place, 60)
    jobs = [submit(database, place) for _ in range(2)]
    reconciler.sweep()
    assert kept(database) == [], "nothing has started"

    with database.transaction() as s:  # the second one is moved ahead
        job_store.set_priority(s, jobs[1], 5, "user:1")
    clock.now += FRESH_SECONDS
    reconciler.sweep()
    claim = database.tx(lambda s: factories.claim(s, worker_id=place["worker_id"]))
    assert claim.job_id == jobs[1]
    (promise,) = kept(database)
    assert promise.job_id == jobs[1]
    assert promise.promised_start - promise.made_at == pytest.approx(60_000, abs=3000)
    assert promise.promised_end - promise.promised_start == 60_000
    assert promise.started_at - promise.made_at < 30_000
    assert promise.ended_at is None

    with database.transaction() as s:
        factories.complete(s, jobs[1], claim.fence)
    (promise,) = kept(database)
    assert promise.ended_at >= promise.started_at


def test_a_job_that_waits_again_is_promised_anew(database, clock, place, reconciler):
    finish(database, place, 60)
    submit(database, place)
    for _ in range(2):
        reconciler.sweep()
        clock.now += FRESH_SECONDS
        claim = database.tx(lambda s: factories.claim(s, worker_id=place["worker_id"]))
        with database.transaction() as s:
            attempt_store.end(
                s, claim.job_id, claim.fence, outcome="preempted", charge=False,
                backoff_ms=0,
            )  # fmt: skip

    promises = kept(database)
    assert [p.job_id for p in promises] == [claim.job_id] * 2
    assert all(p.ended_at is None for p in promises)


def test_a_wait_that_a_user_ended_is_promised_anew(database, clock, place, reconciler):
    finish(database, place, 60)
    first, second = (submit(database, place) for _ in range(2))
    reconciler.sweep()
    with database.transaction() as s:
        for job in (first, second):
            job_store.pause(s, job, actor="user:1")
        job_store.resume(s, second, actor="user:1")
    with database.reading() as s:
        assert promise_store.list_unpromised(s) == [second]
    clock.now += FRESH_SECONDS
    reconciler.sweep()

    claim = database.tx(lambda s: factories.claim(s, worker_id=place["worker_id"]))
    (promise,) = kept(database)
    assert (claim.job_id, promise.job_id) == (second, second)
    assert promise.promised_start - promise.made_at < 3000, "it is the next one now"


def test_what_earlier_attempts_have_done_is_not_waited_for_again(
    database, clock, place
):
    finish(database, place, 600)
    job = submit(database, place)
    with database.transaction() as s:
        s.execute(
            update(Job).where(Job.id == job).values(running_ms=500_000, last_step=9)
        )

    expected = QueueOutlook(database, clock).look()[job]

    assert expected.ends_at - expected.starts_at == 100_000


def test_what_was_resumed_after_a_users_retry_teaches_no_duration(
    database, clock, place
):
    finish(database, place, 600)
    short = finish(database, place, 6)
    with database.transaction() as s:
        s.execute(update(Attempt).where(Attempt.job_id == short).values(start_step=50))
    job = submit(database, place)

    expected = QueueOutlook(database, clock).look()[job]

    assert expected.ends_at - expected.starts_at == 600_000


def test_a_worker_whose_job_is_to_stop_is_free_at_once(database, clock, place):
    finish(database, place, 600)
    running, waiting = submit(database, place), submit(database, place)
    database.tx(lambda s: factories.claim(s, worker_id=place["worker_id"]))
    with database.transaction() as s:
        job_store.cancel(s, running, actor="user:1")

    expected = look_at(database, clock, waiting)

    assert expected < 5000


def look_at(database, clock, job):
    """Milliseconds from now until a job is expected to start."""
    starts_at = QueueOutlook(database, clock).look()[job].starts_at
    with database.reading() as s:
        return starts_at - read_clock(s)


def test_many_promises_are_made_in_few_statements(database, clock, place, reconciler):
    finish(database, place, 1)
    count = 2 * AT_ONCE + 1
    for _ in range(3):
        submit(database, place)
    with database.transaction() as s:
        template = s.get_one(Job, 2)
        names = [c.name for c in Job.__table__.columns if c.name != "id"]
        values = {name: getattr(template, name) for name in names}
        s.add_all(
            Job(**values | {"idempotency_key": f"k{n}"}) for n in range(count - 3)
        )

    reconciler.sweep()

    with database.reading() as s:
        assert promise_store.list_unpromised(s) == []
