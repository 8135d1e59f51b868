"""Whole worker processes with a real broker: kill anything, and the job goes on.

Every worker here is `python -m worker.run` in all but its two child programs; the
reconciler is the real one, swept by the test. Timers are short: a lease of 2 s, a
heartbeat of 0.3 s, an own look at the table every half second.
"""

import json
import os
import signal
import time

import psutil
import pytest

from shared import attempt_store, job_store
from shared.base_models import get_base_model
from shared.database import Database
from shared.errors import LostLease
from tests.worker.fleet import straight_run
from tests.worker.processes import is_running, seconds_until_gone, wait_until
from tests.worker.workshop import TIMERS

SLOW = {"steps": 2000, "step_seconds": 0.02}


class TestKills:
    def test_kill_of_the_trainer_costs_nothing_but_the_last_steps(self, fleet):
        expected = straight_run(fleet, steps=60)
        job_id = fleet.shop.submit(steps=60)
        fleet.start_worker()
        fleet.wait_for_step(job_id)
        os.kill(fleet.trainer(), signal.SIGKILL)
        fleet.wait_for_state(job_id, "succeeded")

        first, second = fleet.shop.attempts(job_id)
        assert (first.outcome, first.charged) == ("killed", False)
        assert second.start_step >= 10
        assert fleet.shop.weights(job_id) == expected

    def test_kill_of_the_guardian_ends_the_trainer_at_once(self, fleet):
        job_id = fleet.shop.submit(**SLOW)
        fleet.start_worker()
        fleet.wait_for_step(job_id)
        trainer = fleet.trainer()
        os.kill(psutil.Process(trainer).ppid(), signal.SIGKILL)

        wait_until(lambda: not is_running(trainer), 1)
        wait_until(lambda: len(fleet.shop.attempts(job_id)) == 2)
        assert fleet.shop.attempts(job_id)[0].outcome == "killed"

    def test_restarted_worker_goes_on_without_waiting_for_the_lease(self, make_fleet):
        fleet = make_fleet(lease_seconds=600)
        expected = straight_run(fleet, steps=60)
        job_id = fleet.shop.submit(steps=60, step_seconds=0.05)
        worker = fleet.start_worker()
        fleet.wait_for_step(job_id)
        worker.kill()
        fleet.start_worker()
        fleet.wait_for_state(job_id, "succeeded")

        first, second = fleet.shop.attempts(job_id)
        assert (first.outcome, first.charged) == ("lost", False)
        assert second.start_step >= 10
        assert fleet.shop.weights(job_id) == expected

    def test_attempt_that_ended_in_order_is_not_ended_again(self, make_fleet):
        fleet = make_fleet(lease_seconds=600)
        job_id = fleet.shop.submit(steps=20)
        worker = fleet.start_worker()
        fleet.wait_for_state(job_id, "succeeded")
        worker.kill()
        fleet.start_worker()
        after = fleet.shop.submit(steps=5)
        fleet.wait_for_state(after, "succeeded")

        assert [a.outcome for a in fleet.shop.attempts(job_id)] == ["succeeded"]

    def test_restarted_worker_ends_the_orphan_and_the_job_goes_on(self, fleet):
        expected = straight_run(fleet, steps=60)
        stubborn = {"step": 12, "do": "hang_hard", "fences": [1]}
        job_id = fleet.shop.submit(steps=60, faults=[stubborn])
        worker = fleet.start_worker()
        fleet.wait_for_step(job_id)
        orphan = fleet.trainer()
        worker.kill()
        other = fleet.shop.submit(steps=5)
        fleet.start_worker()
        fleet.wait_for_state(other, "succeeded")

        assert not is_running(orphan)
        fleet.wait_for_state(job_id, "succeeded")
        first, second = fleet.shop.attempts(job_id)
        assert (first.outcome, first.charged) == ("lost", False)
        assert second.start_step == 10
        assert fleet.shop.weights(job_id) == expected


class TestPreemption:
    def test_a_job_gives_way_to_an_urgent_one_and_goes_on(self, fleet):
        expected = straight_run(fleet, steps=100)
        humble = fleet.shop.submit(
            steps=100, step_seconds=0.05, row={"preemptible": True}
        )
        fleet.start_worker()
        fleet.start_reconciler()
        fleet.wait_for_step(humble)

        urgent = fleet.shop.submit(steps=5, row={"priority": 9})
        fleet.wait_for_state(urgent, "succeeded")
        fleet.wait_for_state(humble, "succeeded")

        first, second = fleet.shop.attempts(humble)
        (between,) = fleet.shop.attempts(urgent)
        assert (first.outcome, first.charged) == ("paused", False)
        assert first.ended_at <= between.started_at <= between.ended_at
        assert between.ended_at <= second.started_at
        assert second.start_step >= 10
        assert fleet.shop.weights(humble) == expected


class TestBroker:
    def test_kick_starts_a_job_without_waiting_for_the_next_look(self, make_fleet):
        fleet = make_fleet(idle_poll_seconds=60)
        fleet.start_worker()
        fleet.wait_for_listener()
        job_id = fleet.shop.submit(steps=5)
        fleet.ring()

        fleet.wait_for_state(job_id, "succeeded", timeout=20)

    def test_hundred_kicks_and_two_workers_make_one_attempt_of_each_job(
        self, make_fleet
    ):
        fleet = make_fleet(idle_poll_seconds=60)
        jobs = [fleet.shop.submit(steps=20) for _ in range(3)]
        for _ in range(100):
            fleet.ring()
        fleet.start_worker("one")
        fleet.start_worker("two")
        for job_id in jobs:
            fleet.wait_for_state(job_id, "succeeded")
        # A worker hears some seven a second: Celery takes them one by one.
        wait_until(lambda: not fleet.count_kicks(), 60, "the kicks to be heard")

        assert [len(fleet.shop.attempts(job_id)) for job_id in jobs] == [1, 1, 1]
        versions = [v.version for j in jobs for v in fleet.shop.versions(j)]
        assert sorted(versions) == [1, 2, 3]

    def test_reconciler_rings_again_for_a_job_whose_kick_was_lost(self, make_fleet):
        fleet = make_fleet(idle_poll_seconds=60)
        fleet.start_worker()
        fleet.wait_for_listener()
        job_id = fleet.shop.submit(steps=5)
        fleet.ring()
        fleet.broker.client().flushall()
        second = fleet.shop.submit(steps=5)  # nobody rings for this one at all
        fleet.start_reconciler()

        fleet.wait_for_state(job_id, "succeeded", timeout=30)
        fleet.wait_for_state(second, "succeeded", timeout=30)
        assert len(fleet.shop.attempts(second)) == 1

    def test_frozen_broker_holds_up_neither_jobs_nor_the_end_of_a_worker(self, fleet):
        worker = fleet.start_worker()
        fleet.wait_for_listener()
        fleet.broker.process.send_signal(signal.SIGSTOP)
        job_id = fleet.shop.submit(steps=5)

        fleet.wait_for_state(job_id, "succeeded", timeout=15)
        worker.terminate()
        try:
            assert worker.wait(25) == 0
        finally:
            fleet.broker.process.send_signal(signal.SIGCONT)

    def test_killed_broker_that_comes_back_empty_loses_no_job(self, fleet):
        running = fleet.shop.submit(steps=100)
        fleet.start_worker()
        fleet.wait_for_step(running)
        waiting = fleet.shop.submit(steps=5)
        fleet.ring()
        fleet.broker.kill()
        time.sleep(0.5)
        fleet.broker.start()

        fleet.wait_for_state(running, "succeeded")
        fleet.wait_for_state(waiting, "succeeded")
        assert len(fleet.shop.attempts(running)) == 1

    def test_jobs_start_and_workers_drain_without_any_broker(self, fleet):
        fleet.broker.kill()
        worker = fleet.start_worker()
        job_id = fleet.shop.submit(steps=5)
        fleet.wait_for_state(job_id, "succeeded")
        began = time.monotonic()
        worker.terminate()

        assert worker.wait(15) == 0
        assert time.monotonic() - began < 5

    def test_garbage_in_the_queue_costs_no_job(self, fleet):
        fleet.start_worker()
        fleet.wait_for_listener()
        fleet.broker.client().lpush("trainyard:trainyard.train", b"{not json")
        job_id = fleet.shop.submit(steps=5)
        wait_until(
            lambda: fleet.workers[0].poll() is not None or self.done(fleet, job_id)
        )
        fleet.start_worker()

        fleet.wait_for_state(job_id, "succeeded", sweep=True)

    def done(self, fleet, job_id):
        return fleet.shop.job(job_id).state == "succeeded"


class TestDrain:
    def test_drained_job_goes_back_uncharged_and_resumes_where_it_was_saved(
        self, fleet
    ):
        expected = straight_run(fleet, steps=100)
        job_id = fleet.shop.submit(steps=100, checkpoint_every=10_000)
        worker = fleet.start_worker()
        fleet.wait_for_metrics(job_id)
        seconds = self.drain(worker, signal.SIGTERM)
        job, (attempt,) = fleet.shop.job(job_id), fleet.shop.attempts(job_id)

        assert seconds < 5
        assert (job.state, attempt.outcome) == ("queued", "preempted")
        assert (attempt.charged, job.noprog, job.lost) == (False, 0, 0)
        assert fleet.trainers() == []
        fleet.start_worker()
        fleet.wait_for_state(job_id, "succeeded")
        assert fleet.shop.attempts(job_id)[1].start_step == job.last_step > 0
        assert fleet.shop.weights(job_id) == expected

    def test_every_polite_signal_drains_and_hangup_is_ignored(self, fleet):
        jobs = [fleet.shop.submit(**SLOW) for _ in range(2)]
        first, second = fleet.start_worker("one"), fleet.start_worker("two")
        for job_id in jobs:
            fleet.wait_for_metrics(job_id)
        first.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert first.poll() is None

        assert self.drain(first, signal.SIGQUIT) < 5
        assert self.drain(second, signal.SIGINT) < 5
        for job_id in jobs:
            assert fleet.shop.job(job_id).state == "queued"
            assert fleet.shop.attempts(job_id)[-1].outcome == "preempted"

    def drain(self, worker, number):
        began = time.monotonic()
        worker.send_signal(number)
        assert worker.wait(15) == 0
        return time.monotonic() - began


class TestTakeOver:
    def test_frozen_worker_loses_its_job_and_writes_nothing_when_it_wakes(self, fleet):
        expected = straight_run(fleet, steps=150)
        job_id = fleet.shop.submit(steps=150)
        frozen = fleet.start_worker("one")
        fleet.wait_for_step(job_id)
        trainer = fleet.trainer()
        frozen.send_signal(signal.SIGSTOP)
        fleet.start_worker("two")

        def taken_over():
            fleet.reconciler.sweep()
            return fleet.shop.job(job_id).fence == 2

        wait_until(taken_over, 20, "the take-over")
        wait_until(lambda: not is_running(trainer), 5, "the guardian's deadline")
        before = self.written_by(fleet, job_id, 1)
        frozen.send_signal(signal.SIGCONT)
        fleet.wait_for_state(job_id, "succeeded")
        time.sleep(1)

        assert self.written_by(fleet, job_id, 1) == before
        assert [a.outcome for a in fleet.shop.attempts(job_id)] == ["lost", "succeeded"]
        assert fleet.shop.weights(job_id) == expected
        assert frozen.poll() is None

    def test_writes_of_a_superseded_attempt_are_refused(self, fleet):
        job_id = fleet.shop.submit(steps=5)
        zombie = fleet.shop.claim()
        with fleet.shop.database.transaction() as session:
            attempt_store.end(session, job_id, 1, outcome="lost", charge=False)
        fleet.shop.claim()

        with pytest.raises(LostLease), fleet.shop.database.transaction() as session:
            attempt_store.renew(session, job_id, zombie.fence, lease_ms=1000)
        fleet.shop.run_one(zombie)
        assert fleet.shop.versions(job_id) == []
        assert fleet.shop.metrics(job_id) == []
        assert fleet.shop.job(job_id).state == "running"

    def written_by(self, fleet, job_id, fence):
        shop = fleet.shop
        points = [m for m in shop.metrics(job_id) if m.fence == fence]
        checkpoints = [c for c in shop.checkpoints(job_id) if c.fence == fence]
        return len(points), len(checkpoints)


class TestWishes:
    def test_cancel_while_running(self, fleet):
        job_id = fleet.shop.submit(**SLOW)
        fleet.start_worker()
        fleet.wait_for_step(job_id)
        fleet.shop.ask(job_store.cancel, job_id)
        fleet.wait_for_state(job_id, "cancelled", timeout=10)

        assert fleet.shop.versions(job_id) == []
        wait_until(lambda: not fleet.trainers())

    def test_pause_then_resume_then_finish_now(self, fleet):
        job_id = fleet.shop.submit(**SLOW)
        fleet.start_worker()
        fleet.wait_for_step(job_id)
        fleet.shop.ask(job_store.pause, job_id)
        fleet.wait_for_state(job_id, "paused", timeout=10)
        saved = fleet.shop.job(job_id).last_step
        fleet.shop.ask(job_store.resume, job_id)
        fleet.wait_for_step(job_id, saved + 5)
        fleet.shop.ask(job_store.finish_now, job_id)
        fleet.wait_for_state(job_id, "succeeded", timeout=10)

        steps = fleet.shop.versions(job_id)[0].evaluation["steps"]
        assert saved < steps < SLOW["steps"]


def test_stopped_database_costs_no_training(make_fleet, postgres, postgres_url):
    database = Database(postgres_url)
    fleet = make_fleet(use_database=database)
    expected = straight_run(fleet, steps=500)
    job_id = fleet.shop.submit(steps=500)
    fleet.start_worker()
    fleet.wait_for_step(job_id)
    trainer = fleet.trainer()
    postgres.freeze()
    time.sleep(2.5 * TIMERS["lease_seconds"])
    alive = is_running(trainer)
    postgres.thaw()

    assert alive
    fleet.wait_for_state(job_id, "succeeded")
    assert len(fleet.shop.attempts(job_id)) == 1
    assert fleet.shop.weights(job_id) == expected
    fleet.close()
    database.dispose()


def test_database_that_hangs_for_too_long_ends_the_training_in_time(
    make_fleet, postgres, postgres_url
):
    database = Database(postgres_url)
    fleet = make_fleet(
        use_database=database, lease_seconds=8, unconfirmed_lease_seconds=2
    )
    fleet.start_worker()
    job_id = fleet.shop.submit(**SLOW)
    fleet.wait_for_step(job_id)
    trainer = fleet.trainer()
    postgres.freeze()
    try:
        # The limit, a heartbeat, the guardian's look once a second, and a little.
        assert seconds_until_gone(trainer) < 5
    finally:
        postgres.thaw()
        fleet.close()
        database.dispose()


def test_whole_path_on_postgres(make_fleet, postgres_url):
    database = Database(postgres_url)
    fleet = make_fleet(use_database=database)
    expected = straight_run(fleet, steps=60)
    job_id = fleet.shop.submit(steps=60)
    worker = fleet.start_worker()
    fleet.wait_for_step(job_id)
    worker.kill()
    fleet.start_worker()
    fleet.wait_for_state(job_id, "succeeded", sweep=True)

    assert fleet.shop.weights(job_id) == expected
    fleet.close()
    database.dispose()


class TestWeights:
    def test_worker_tells_of_the_weights_it_was_given(self, fleet, tmp_path):
        mirror = tmp_path / "mirror"
        mirror.mkdir()
        (mirror / get_base_model("MobileNet").weights_file).touch()
        fleet.start_worker(
            TRAINYARD_WEIGHTS_DIRS=json.dumps([str(mirror)]),
            TRAINYARD_DOWNLOAD_WEIGHTS="false",
            KERAS_HOME=str(tmp_path / "keras"),
        )

        row = wait_until(fleet.workers_seen)[0]
        assert "MobileNet" in row.base_models["ready"]
        assert "EfficientNetLite2" in row.base_models["ready"]
        assert "VGG16" not in row.base_models["ready"]
        assert row.base_models["folders"] == [
            str(mirror),
            str(tmp_path / "keras" / "models"),
        ]
        assert row.base_models["download"] is False

    def test_worker_that_reads_datasets_tells_of_none(self, fleet):
        fleet.start_worker(slot="ingest")

        assert wait_until(fleet.workers_seen)[0].base_models is None
