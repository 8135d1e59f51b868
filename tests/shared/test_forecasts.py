"""Forecast jobs: queued once, in their turn, published once."""

import threading

import pytest

from shared import (
    attempt_store,
    finding_decision_store,
    forecast_store,
    job_store,
    reconcile_store,
)
from shared.errors import (
    Cancelled,
    LostLease,
    NotFoundError,
    UserError,
)
from shared.expected_starts import Taker, expect_starts
from shared.forecast_tables import Forecast
from shared.job_duration import USUAL_FORECAST_SECONDS, Durations, measure_work
from shared.queue_outlook_store import list_waiting
from shared.tables import DatasetVersion, Job
from tests import factories
from tests.shared.asked_forecasts import ask, list_forecast_jobs


class TestQueueing:
    def test_new_version_is_forecast_once_however_often_it_is_completed(
        self, database, owner_id
    ):
        with database.transaction() as s:
            dataset = factories.make_dataset(s, owner_id, "cells")
            job_id = factories.make_job(
                s, owner_id, kind="ingest", dataset_id=dataset.id
            )
            fence = factories.claim(s, kinds=["ingest"]).fence
        for _ in range(2):  # the answer to the first COMMIT got lost
            with database.transaction() as s:
                factories.complete_ingest(s, job_id, fence, forecasts=True)

        (job,) = list_forecast_jobs(database)
        assert (job.state, job.title, job.queue) == ("queued", "cells", "default")
        assert (job.owner_id, job.dataset_id) == (owner_id, dataset.id)
        with database.reading() as s:
            assert s.get_one(DatasetVersion, job.dataset_version_id).job_id == job_id

    @pytest.mark.usefixtures("version_id")
    def test_nothing_is_queued_when_it_is_switched_off(self, database):
        assert list_forecast_jobs(database) == []

    def test_second_wish_is_answered_with_the_job_under_way(
        self, database, version_id, owner_id
    ):
        first = ask(database, version_id, owner_id)
        second = ask(database, version_id, owner_id, again=True)

        assert (first.created, second.created) == (True, False)
        assert second.job_id == first.job_id

    def test_two_who_ask_at_once_get_one_job(self, database, version_id, owner_id):
        barrier, answers = threading.Barrier(4), []

        def wish():
            barrier.wait()
            answers.append(ask(database, version_id, owner_id))

        threads = [threading.Thread(target=wish) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(answers) == 4
        assert [answer.created for answer in answers].count(True) == 1
        assert len({answer.job_id for answer in answers}) == 1

    def test_forecast_that_is_there_answers_unless_asked_again(
        self, database, version_id, owner_id
    ):
        with database.transaction() as s:
            factories.make_forecast_row(s, version_id, owner_id)
        (made,) = list_forecast_jobs(database)

        plain = ask(database, version_id, owner_id)
        again = ask(database, version_id, owner_id, again=True)

        assert (plain.job_id, plain.created) == (made.id, False)
        assert again.created
        assert again.job_id != made.id

    def test_failed_forecast_does_not_answer(self, database, version_id, owner_id):
        first = ask(database, version_id, owner_id)
        with database.transaction() as s:
            fence = factories.claim(s, kinds=["forecast"]).fence
            attempt_store.end(
                s, first.job_id, fence, outcome="failed", charge=True, permanent=True
            )

        assert ask(database, version_id, owner_id).created

    def test_version_that_is_not_there_is_refused(self, database, owner_id):
        with pytest.raises(NotFoundError, match="no dataset version 99"):
            ask(database, 99, owner_id)


class TestPublishing:
    @pytest.fixture
    def claim(self, database, version_id, owner_id):
        ask(database, version_id, owner_id)
        with database.transaction() as s:
            return factories.claim(s, kinds=["forecast"])

    def test_forecast_is_published_once_by_its_attempt(
        self, database, version_id, claim
    ):
        answers = []
        for _ in range(2):
            with database.transaction() as s:
                answers.append(
                    factories.complete_forecast(s, claim.job_id, claim.fence)
                )

        assert [answer.already for answer in answers] == [False, True]
        assert answers[0].version == answers[1].version
        with database.reading() as s:
            (row,) = s.query(Forecast).all()
            assert forecast_store.find_newest(s, version_id).id == row.id
            assert reconcile_store.find_violations(s) == []
        assert row.summary["difficulty"]["grade"] == "moderate"

    def test_attempt_that_lost_its_lease_publishes_nothing(self, database, claim):
        with database.transaction() as s:
            attempt_store.end(
                s, claim.job_id, claim.fence, outcome="lost", charge=False
            )
            second = factories.claim(s, kinds=["forecast"])
        with pytest.raises(LostLease), database.transaction() as s:
            factories.complete_forecast(s, claim.job_id, claim.fence)
        with database.transaction() as s:
            factories.complete_forecast(s, claim.job_id, second.fence)

        with database.reading() as s:
            assert s.query(Forecast).count() == 1

    def test_cancelled_forecast_publishes_nothing(self, database, claim):
        with database.transaction() as s:
            job_store.cancel(s, claim.job_id, actor="user:1")
        with pytest.raises(Cancelled), database.transaction() as s:
            factories.complete_forecast(s, claim.job_id, claim.fence)

        with database.reading() as s:
            assert s.query(Forecast).count() == 0


def claim_all(database):
    """Takes all that a training slot may take; the jobs in the order of their start."""
    claimed = []
    while True:
        with database.transaction() as s:
            claim = factories.claim(s, kinds=["train", "forecast"])
        if claim is None:
            return claimed
        claimed.append(claim.job_id)


class TestOrder:
    @pytest.fixture
    def mixed(self, database, version_id, owner_id):
        """A training that came first with a high priority, then a forecast."""
        with database.transaction() as s:
            training = factories.make_job(s, owner_id, priority=100)
        asked = ask(database, version_id, owner_id, goes_first=True)
        return training, asked.job_id

    def test_first_forecast_of_a_version_is_claimed_before_any_training(
        self, database, owner_id
    ):
        with database.transaction() as s:
            training = factories.make_job(s, owner_id, priority=100)
            factories.make_version(s, owner_id, forecasts=True)

        (forecast,) = list_forecast_jobs(database)
        assert claim_all(database) == [forecast.id, training]

    def test_forecast_asked_for_takes_its_turn_among_trainings(
        self, database, version_id, owner_id
    ):
        with database.transaction() as s:
            other = factories.make_user(s).id
            own = [factories.make_job(s, owner_id) for _ in range(2)]
            theirs = [factories.make_job(s, other) for _ in range(2)]
            urgent = factories.make_job(s, other, priority=1)
        forecast = ask(database, version_id, owner_id, again=True).job_id
        with database.transaction() as s:
            third = factories.make_job(s, other)
            last = factories.make_job(s, owner_id)
        expected = [urgent, own[0], theirs[0], own[1], theirs[1], forecast, third, last]
        with database.reading() as s:
            outlook = [job.job_id for job in list_waiting(s)]

        assert outlook == expected
        assert claim_all(database) == expected

    def test_priority_above_all_is_for_no_user_to_give(self, database, mixed):
        for job_id in mixed:
            with pytest.raises(UserError, match="-100 to 100"):
                database.tx(
                    lambda s, n=job_id: job_store.set_priority(s, n, 101, "user:1")
                )

    def test_user_who_may_train_no_more_is_still_forecast(self, database, mixed):
        claimed = []
        with database.transaction() as s:
            factories.claim(s, kinds=["train"])
            factories.make_job(s, s.get_one(Job, mixed[0]).owner_id)
        for _ in range(2):
            with database.transaction() as s:
                claimed.append(
                    factories.claim(
                        s, kinds=["train", "forecast"], max_running_per_user=1
                    )
                )

        assert claimed[0].job_id == mixed[1]
        assert claimed[1] is None

    def test_trainings_are_expected_behind_a_forecast_nobody_has_timed(
        self, database, mixed
    ):
        training, forecast = mixed
        with database.reading() as s:
            waiting = list_waiting(s)
        taker = Taker(1, frozenset({"train", "forecast"}), frozenset({"default"}), 0, 0)
        work = measure_work("forecast", {}, 4)

        expected = expect_starts(
            waiting,
            [taker],
            lambda job, _: (
                Durations([]).estimate(work) if job.kind == "forecast" else 5
            ),
            0,
        )

        assert expected[forecast].starts_at == 0
        assert expected[training].starts_at == 1000 * USUAL_FORECAST_SECONDS

    def test_forecasts_that_fail_take_no_slot_out_of_service(
        self, database, version_id, owner_id
    ):
        with database.transaction() as s:
            worker_id = factories.make_worker(s, kinds=["train", "forecast"])
        for _ in range(4):
            asked = ask(database, version_id, owner_id)
            with database.transaction() as s:
                claim = factories.claim(s, kinds=["forecast"], worker_id=worker_id)
                attempt_store.end(
                    s, asked.job_id, claim.fence, outcome="failed", charge=True,
                    permanent=True,
                )  # fmt: skip

        with database.reading() as s:
            assert reconcile_store.find_failing_workers(s) == []


def test_finding_is_accepted_once_for_all_versions(database, version_id):
    with database.transaction() as s:
        dataset_id = s.get_one(DatasetVersion, version_id).dataset_id
    first = {"a" * 32: "outlier", "b" * 32: "blurred"}
    counts = [
        database.tx(
            lambda s, f=found: finding_decision_store.accept(
                s, dataset_id, f, actor="user:1"
            )
        )
        for found in (first, first | {"c" * 32: "too_dark"}, {})
    ]

    assert counts == [2, 1, 0]
    with database.reading() as s:
        accepted = finding_decision_store.list_accepted(s, dataset_id)
    assert accepted == {"a" * 32, "b" * 32, "c" * 32}


def test_accepted_findings_are_taken_back(database, version_id):
    with database.transaction() as s:
        dataset_id = s.get_one(DatasetVersion, version_id).dataset_id
        found = {f"{number:032x}": "blurred" for number in range(1200)}
        finding_decision_store.accept(s, dataset_id, found, actor="user:1")
    some = [*found][:1100]

    counts = [
        database.tx(
            lambda s, k=keys: finding_decision_store.take_back(
                s, dataset_id, k, actor="user:2"
            )
        )
        for keys in (some, some, ["f" * 32], [])
    ]

    assert counts == [1100, 0, 0, 0]
    with database.reading() as s:
        left = finding_decision_store.list_accepted(s, dataset_id)
    assert left == {*found} - {*some}


def test_gists_are_those_of_the_newest_forecasts(database, version_id, owner_id):
    with database.transaction() as s:
        for winner in ("MobileNet", "EfficientNetLite2"):
            summary = {"winner": winner, "presets": {"fast": {"memory_bytes": 5}}}
            factories.make_forecast_row(s, version_id, owner_id, summary=summary)
        other = factories.make_version(s, owner_id)

    with database.reading() as s:
        gists = forecast_store.list_gists(s, [version_id, other])

    gist = gists[version_id]
    assert list(gists) == [version_id]
    assert gist.winner == "EfficientNetLite2"
    assert gist.presets == {"fast": {"memory_bytes": 5}}
    assert gist.base_model is None


def test_forecast_of_an_older_version_is_found(database, version_id, owner_id):
    with database.transaction() as s:
        row = factories.make_forecast_row(s, version_id, owner_id)

    with database.reading() as s:
        version = s.get_one(DatasetVersion, version_id)
        found = forecast_store.find_before(s, version.dataset_id, 2)
        none = forecast_store.find_before(s, version.dataset_id, 1)

    assert found is not None
    assert (found[0].id, found[1].id) == (version_id, row)
    assert none is None
