"""Reaping, deadlines, quarantine, ringing and the check of the invariants."""

import threading
import time

import pytest
from sqlalchemy import text, update

from shared import (
    attempt_store,
    job_read_store,
    job_store,
    queue,
    reconcile_store,
    worker_store,
)
from shared.reconcile_store import RunningJob
from shared.reconciler import Reaper, Reconciler
from shared.settings import Settings
from shared.tables import Attempt, Job
from tests import factories
from tests.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reconciler(database, tmp_path, clock, monkeypatch):
    monkeypatch.setattr(Reconciler, "_ring", lambda _self: None)  # no broker here
    settings = Settings(data_dir=tmp_path, lease_seconds=60, max_job_hours=2)
    return Reconciler(database, settings, clock)


@pytest.fixture
def claim(database):
    with database.transaction() as s:
        factories.make_job(s)
        return factories.claim(s, lease_ms=-1)  # has run out already


def get_job(database, job_id):
    with database.reading() as s:
        return job_read_store.get_job(s, job_id)


def running(job_id=1, fence=1, hb=1, *, expired=True):
    return RunningJob(job_id, fence, hb, expired, running_ms=0)


def watch(reaper, clock, jobs, reads, seconds=20):
    """The answers of so many good reads, `seconds` apart."""
    answers = []
    for _ in range(reads):
        answers.append([job.job_id for job in reaper.find_dead(jobs)])
        clock.now += seconds
    return answers


def test_an_expired_lease_alone_kills_nobody(clock):
    reaper = Reaper(60, clock)

    assert watch(reaper, clock, [running()], 3) == [[], [], []]


def test_an_unchanged_heartbeat_alone_kills_nobody(clock):
    reaper = Reaper(60, clock)

    answers = watch(reaper, clock, [running(expired=False)], 20)

    assert answers == [[]] * 20


def test_both_together_for_a_whole_lease_do(clock):
    reaper = Reaper(60, clock)

    assert watch(reaper, clock, [running()], 5) == [[], [], [], [1], [1]]


def test_two_looks_are_not_enough_however_far_apart(clock):
    reaper = Reaper(60, clock)

    assert watch(reaper, clock, [running()], 3, seconds=1000) == [[], [], [1]]


def test_a_heartbeat_that_moves_starts_the_watch_anew(clock):
    reaper = Reaper(60, clock)
    watch(reaper, clock, [running(hb=1)], 3)

    assert watch(reaper, clock, [running(hb=2)], 4) == [[], [], [], [1]]


def test_a_failed_read_starts_the_watch_anew(clock):
    reaper = Reaper(60, clock)
    watch(reaper, clock, [running()], 3)
    reaper.forget()

    assert watch(reaper, clock, [running()], 4) == [[], [], [], [1]]


def test_when_most_seem_dead_the_reaper_waits_one_more_lease(clock):
    reaper = Reaper(60, clock)
    jobs = [running(n) for n in range(1, 5)]

    answers = watch(reaper, clock, jobs, 8)

    assert answers[:6] == [[]] * 6
    assert answers[6] == [1, 2, 3, 4]


def test_few_dead_among_many_are_reaped_at_once(clock):
    reaper = Reaper(60, clock)
    dead = [running(n) for n in range(1, 4)]
    alive = [running(n, expired=False) for n in range(4, 10)]

    assert watch(reaper, clock, dead + alive, 4)[3] == [1, 2, 3]


def test_a_dead_attempt_is_ended_and_its_job_goes_on(
    database, reconciler, clock, claim
):
    for _ in range(5):
        reconciler.sweep()
        clock.now += 20

    job = get_job(database, claim.job_id)
    assert (job.state, job.lost, job.noprog) == ("queued", 1, 0)
    assert job.reason == "Its worker stopped answering."
    assert database.tx(factories.claim).fence == 2


def test_a_live_attempt_is_left_alone(database, reconciler, clock, claim):
    for _ in range(10):
        reconciler.sweep()
        clock.now += 20
        database.tx(
            lambda s: attempt_store.renew(s, claim.job_id, claim.fence, lease_ms=1)
        )
        time.sleep(0.005)

    assert get_job(database, claim.job_id).state == "running"


def test_a_heart_that_beat_since_it_was_read_spares_its_attempt(
    database, reconciler, claim
):
    with database.reading() as s:
        (seen,) = reconcile_store.list_running(s)
    database.tx(lambda s: attempt_store.renew(s, claim.job_id, claim.fence, lease_ms=1))

    reconciler._end_dead(seen)

    assert get_job(database, claim.job_id).state == "running"


def test_two_reconcilers_reap_once(database, tmp_path, clock, reconciler, claim):
    other = Reconciler(database, Settings(data_dir=tmp_path), clock)
    for _ in range(5):
        reconciler.sweep()
        other.sweep()
        clock.now += 20

    assert get_job(database, claim.job_id).lost == 1


def test_a_reaped_job_that_was_cancelled_is_cancelled(
    database, reconciler, clock, claim
):
    with database.transaction() as s:
        job_store.cancel(s, claim.job_id, actor="user:1")
    for _ in range(5):
        reconciler.sweep()
        clock.now += 20

    assert get_job(database, claim.job_id).state == "cancelled"


def test_a_job_that_ran_too_long_fails_with_that_reason(database, reconciler, claim):
    with database.transaction() as s:
        s.execute(update(Attempt).values(started_at=Attempt.started_at - 7_200_001))

    reconciler.sweep()

    job = get_job(database, claim.job_id)
    assert (job.state, job.failure_code) == ("failed", "deadline")
    assert job.reason == "It ran longer than the allowed 2 hours."


def fail_jobs(database, worker_id, count, *, same=False, **ending):
    """Lets `count` jobs crash on a worker, one job each unless `same`."""
    values = {"outcome": "crash", "charge": True, "backoff_ms": 0, **ending}
    with database.transaction() as s:
        for _ in range(1 if same else count):
            factories.make_job(s)
    for number in range(count):
        with database.transaction() as s:
            if not same:  # the job that crashed would come first again
                s.execute(update(Job).where(Job.attempts > 0).values(state="paused"))
            claim = factories.claim(s, worker_id=worker_id)
            assert claim, number
            attempt_store.end(s, claim.job_id, claim.fence, **values)
        time.sleep(0.002)


@pytest.fixture
def worker_id(database):
    with database.transaction() as s:
        return factories.make_worker(s)


def status_of(database, worker_id):
    with database.reading() as s:
        return worker_store.get_worker(s, worker_id).status


def test_a_slot_that_fails_three_jobs_is_taken_out(database, reconciler, worker_id):
    fail_jobs(database, worker_id, 2)
    reconciler.sweep()
    assert status_of(database, worker_id) == "active"

    fail_jobs(database, worker_id, 1)
    reconciler.sweep()

    assert status_of(database, worker_id) == "quarantined"


def test_a_quarantine_that_was_lifted_stays_lifted(database, reconciler, worker_id):
    fail_jobs(database, worker_id, 3)
    reconciler.sweep()
    with database.transaction() as s:
        worker_store.set_status(s, worker_id, "active", actor="user:1")

    reconciler.sweep()

    assert status_of(database, worker_id) == "active"


def test_one_bad_job_takes_no_slot_out(database, reconciler, worker_id):
    fail_jobs(database, worker_id, 3, same=True)

    reconciler.sweep()

    assert status_of(database, worker_id) == "active"


def test_bad_specs_take_no_slot_out(database, reconciler, worker_id):
    fail_jobs(database, worker_id, 3, permanent=True)

    reconciler.sweep()

    assert status_of(database, worker_id) == "active"


def test_a_healthy_installation_violates_nothing(database, claim):
    with database.transaction() as s:
        factories.complete(s, claim.job_id, claim.fence)
        owner_id = factories.make_user(s).id
        dataset_id = factories.make_dataset(s, owner_id).id
        factories.make_job(s, owner_id, kind="ingest", dataset_id=dataset_id)
        ingest = factories.claim(s)
        factories.complete_ingest(s, ingest.job_id, ingest.fence)

    with database.reading() as s:
        assert reconcile_store.find_violations(s) == []


@pytest.mark.parametrize(
    ("harm", "invariant"),
    [
        ("UPDATE attempts SET fence = 9", "I1"),
        ("UPDATE jobs SET state = 'queued'", "I1"),
        ("UPDATE jobs SET state = 'succeeded'", "I3"),
        ("UPDATE models SET last_version = 4", "I3"),
        ("UPDATE jobs SET state = 'succeeded', desired = 'cancel'", "I4"),
    ],
)
def test_a_violation_is_found(database, claim, harm, invariant):
    with database.transaction() as s:
        s.execute(text(harm))

    with database.reading() as s:
        found = reconcile_store.find_violations(s)
    assert any(line.startswith(invariant) for line in found)


def test_a_step_that_fails_does_not_keep_the_others(
    database, reconciler, claim, monkeypatch
):
    def fail(_self):
        raise OSError("broken")

    monkeypatch.setattr(Reconciler, "_reap", fail)
    with database.transaction() as s:
        s.execute(update(Attempt).values(started_at=0))

    reconciler.sweep()

    assert get_job(database, claim.job_id).failure_code == "deadline"


def test_only_a_whole_sweep_counts_as_a_beat(reconciler, monkeypatch):
    stop, beats = threading.Event(), []

    def beat():
        beats.append("beat")
        stop.set()

    reconciler.run_forever(stop, on_sweep=beat)
    monkeypatch.setattr(Reconciler, "_check", lambda _self: 1 / 0)

    assert beats == ["beat"]
    assert not reconciler.sweep()


@pytest.fixture
def rung(broker, monkeypatch, tmp_path):
    """Settings of an installation on the test's broker; kicks go there."""
    settings = Settings(data_dir=tmp_path, redis_url=broker.url)
    monkeypatch.setattr(queue, "get_settings", lambda: settings)
    queue.build_producer.cache_clear()
    yield settings
    queue.build_producer().close()
    queue.build_producer.cache_clear()


def test_one_kick_for_each_idle_worker_that_has_something_to_do(database, rung):
    with database.transaction() as s:
        for _ in range(5):
            factories.make_job(s)
        for number in range(4):
            factories.make_worker(s, kinds=["ingest"] if number == 3 else ["train"])
        worker_store.beat(s, 1, job_id=77)
    reconciler = Reconciler(database, rung)

    for _ in range(3):
        reconciler.sweep()

    assert queue.queue_length(queue.TRAIN_QUEUE) == 2
    assert queue.queue_length(queue.CPU_QUEUE) == 0


def test_a_broker_that_is_away_only_costs_the_ringing(database, rung, broker, claim):
    broker.kill()
    with database.transaction() as s:
        s.execute(update(Attempt).values(started_at=0))

    Reconciler(database, rung).sweep()

    assert get_job(database, claim.job_id).failure_code == "deadline"


def test_a_slot_that_fails_one_job_again_and_again_among_others_is_taken_out(
    database, reconciler, worker_id
):
    fail_jobs(database, worker_id, 2)
    with database.transaction() as s:
        s.execute(update(Job).values(state="paused"))
    fail_jobs(database, worker_id, 2, same=True)

    reconciler.sweep()

    assert status_of(database, worker_id) == "quarantined"
