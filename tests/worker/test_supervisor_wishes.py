"""What a supervisor does when users, workers and databases want something of it."""

import signal
import time

from shared import attempt_store, job_store
from shared.errors import RetryableError
from tests.worker.processes import wait_until
from tests.worker.supervised import find_trainers, once, once_it_trains


class TestWishes:
    def test_cancel_stops_the_child_and_the_job(self, shop):
        job_id = shop.submit(steps=2000)
        later = once_it_trains(shop, job_id, lambda: shop.ask(job_store.cancel, job_id))
        shop.run_one()
        later.join()

        assert shop.job(job_id).state == "cancelled"
        assert shop.attempts(job_id)[0].exit_code == 75

    def test_cancelled_while_it_finishes_is_not_published(self, shop):
        job_id = shop.submit(steps=1, evaluate_seconds=2)
        later = once(
            lambda: shop.job(job_id).phase == "evaluate",
            lambda: shop.ask(job_store.cancel, job_id),
        )
        # A heartbeat too slow to hear of it: only the last transaction can refuse.
        shop.settings = shop.settings.model_copy(
            update={"heartbeat_seconds": 60, "lease_seconds": 90}
        )
        shop.run_one()
        later.join()

        assert shop.job(job_id).state == "cancelled"
        assert shop.versions(job_id) == []

    def test_pause_saves_and_resume_goes_on_from_there(self, shop):
        straight = shop.submit(steps=100, step_seconds=0)
        shop.run_one()
        job_id = shop.submit(steps=100, checkpoint_every=1000)
        later = once_it_trains(shop, job_id, lambda: shop.ask(job_store.pause, job_id))
        shop.run_one()
        later.join()
        paused = shop.job(job_id)
        shop.ask(job_store.resume, job_id)
        shop.run_one()

        assert (paused.state, paused.noprog) == ("paused", 0)
        assert shop.attempts(job_id)[1].start_step == paused.last_step > 0
        assert shop.weights(job_id) == shop.weights(straight)

    def test_finish_now_publishes_the_best_so_far(self, shop):
        job_id = shop.submit(steps=2000)
        later = once_it_trains(
            shop, job_id, lambda: shop.ask(job_store.finish_now, job_id)
        )
        shop.run_one()
        later.join()

        assert shop.job(job_id).state == "succeeded"
        assert 0 < shop.versions(job_id)[0].evaluation["steps"] < 2000

    def test_drain_gives_the_job_back_uncharged(self, shop):
        job_id = shop.submit(steps=2000)

        def drain():
            shop.stopping = True

        later = once_it_trains(shop, job_id, drain)
        shop.run_one()
        later.join()

        job, (attempt,) = shop.job(job_id), shop.attempts(job_id)
        assert (job.state, attempt.outcome) == ("queued", "preempted")
        assert not attempt.charged
        assert job.last_step > 0


class TestLease:
    def test_supervisor_that_lost_its_lease_stops_and_writes_nothing(self, shop):
        job_id = shop.submit(steps=2000, faults=[])
        claim = shop.claim()

        def take_over():
            with shop.database.transaction() as session:
                attempt_store.end(
                    session, job_id, claim.fence, outcome="lost", charge=False
                )
            shop.claim()

        later = once_it_trains(shop, job_id, take_over)
        shop.run_one(claim)
        later.join()

        job = shop.job(job_id)
        assert (job.state, job.fence) == ("running", claim.fence + 1)
        assert [a.outcome for a in shop.attempts(job_id)] == ["lost", None]
        assert find_trainers() == []

    def test_database_that_is_away_costs_no_training(self, shop):
        straight = shop.submit(steps=60, step_seconds=0)
        shop.run_one()
        job_id = shop.submit(steps=60, step_seconds=0.06)
        gate = Gate(shop.database)

        def close_for_a_while():
            gate.close()
            time.sleep(4)
            gate.open()

        later = once_it_trains(shop, job_id, close_for_a_while)
        shop.run_one(database=gate)
        later.join()

        (attempt,) = shop.attempts(job_id)
        assert (shop.job(job_id).state, attempt.outcome) == ("succeeded", "succeeded")
        assert gate.refused >= 3
        losses = [m.step for m in shop.metrics(job_id) if m.name == "loss"]
        assert losses == list(range(1, 61))
        assert shop.weights(job_id) == shop.weights(straight)

    def test_database_away_for_too_long_makes_the_child_save_and_stop(self, shop):
        job_id = shop.submit(steps=2000)
        shop.settings = shop.settings.model_copy(
            update={"unconfirmed_lease_seconds": 1.5}
        )
        gate = Gate(shop.database)
        once_it_trains(shop, job_id, gate.close)
        claim = shop.run_one(database=gate)

        assert shop.job(job_id).state == "running"  # until its lease is seen to run out
        assert list((shop.folder(claim) / "ckpt").iterdir())

    def test_child_that_somebody_kills_is_not_charged(self, shop):
        job_id = shop.submit(steps=2000)

        def kill():
            (trainer,) = wait_until(find_trainers)
            trainer.send_signal(signal.SIGKILL)

        later = once_it_trains(shop, job_id, kill)
        shop.run_one()
        later.join()

        job, (attempt,) = shop.job(job_id), shop.attempts(job_id)
        assert (job.state, job.noprog, attempt.signal) == ("queued", 0, 9)


class Gate:
    """A database that can be made unreachable for the supervisor."""

    def __init__(self, database):
        self._database = database
        self._open = True
        self.refused = 0

    def close(self):
        self._open = False

    def open(self):
        self._open = True

    def tx(self, function, *, patience_seconds=20):
        if not self._open:
            self.refused += 1
            raise RetryableError("no route to the database")
        return self._database.tx(function, patience_seconds=patience_seconds)
