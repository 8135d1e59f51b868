"""What is promised of a training when it is submitted, and what it delivers."""

import pytest

from shared import attempt_store, job_store, training_promise_store
from shared.forecast_tables import TrainingPromise
from shared.presets import build_training_spec
from shared.tables import DatasetVersion
from tests import factories
from tests.web.forecast_example import make_forecast

TIMER = 1  # the worker that made the forecast of the example


def forecast(database, version_id, owner_id, **changes):
    with database.transaction() as s:
        return factories.make_forecast_row(
            s, version_id, owner_id, summary=make_forecast(**changes)
        )


def submit(database, version_id, owner_id, preset="fast", **overrides):
    with database.transaction() as s:
        training = build_training_spec(preset, overrides).model_dump(mode="json")
        job_id = factories.make_job(
            s, owner_id, dataset_version_id=version_id,
            dataset_id=s.get_one(DatasetVersion, version_id).dataset_id,
            spec={"training": training, "preset": preset},
        )  # fmt: skip
        training_promise_store.make(s, [job_id])
    return job_id


def require_accuracy_alone(database, job_id):
    """An accuracy counts as delivered, and no time."""
    row = find(database, job_id)
    assert (row.delivered_accuracy, row.delivered_seconds) == (0.9, None)
    with database.reading() as s:
        record = training_promise_store.measure(s)
    assert (record.accuracy.count, record.seconds) == (1, None)


def find(database, job_id):
    with database.reading() as s:
        return training_promise_store.find_promise(s, job_id)


def finish(database, job_id, accuracy, seconds):
    with database.transaction() as s:
        fence = factories.claim(s, kinds=["train"]).fence
        factories.complete(s, job_id, fence, evaluation={"accuracy": accuracy})
        s.get_one(TrainingPromise, job_id).delivered_seconds = seconds


def test_training_is_promised_what_the_newest_forecast_says(
    database, version_id, owner_id
):
    forecast(database, version_id, owner_id, presets={})
    newest = forecast(database, version_id, owner_id)

    row = find(database, submit(database, version_id, owner_id, "balanced"))

    assert row.forecast_id == newest
    assert (row.accuracy_low, row.accuracy, row.accuracy_high) == (0.87, 0.91, 0.94)
    assert (row.seconds_low, row.seconds, row.seconds_high) == (300, 420, 640)
    assert (row.preset, row.delivered_at) == ("balanced", None)


@pytest.mark.parametrize(
    ("changes", "overrides"),
    [
        ({}, {"frozen_epochs": 3}),
        ({}, {"base_model": "MobileNet"}),
        ({"presets": {}}, {}),
        ({"presets": None}, {}),
        ({"presets": {"fast": {"accuracy": [0.1, None, 0.2]}}}, {}),
        ({"presets": {"fast": {"accuracy": [0.1, 0.2]}}}, {}),
    ],
)
def test_nothing_is_promised_of_what_no_preset_tells(
    database, version_id, owner_id, changes, overrides
):
    forecast(database, version_id, owner_id, **changes)

    job_id = submit(database, version_id, owner_id, "fast", **overrides)

    assert find(database, job_id) is None


def test_other_seed_is_promised_the_same(database, version_id, owner_id):
    forecast(database, version_id, owner_id)

    assert find(database, submit(database, version_id, owner_id, seed=7)) is not None


def test_time_that_nobody_could_tell_is_left_open(database, version_id, owner_id):
    presets = {"fast": {"accuracy": [0.1, 0.2, 0.3], "seconds": None}}
    forecast(database, version_id, owner_id, presets=presets)

    row = find(database, submit(database, version_id, owner_id))

    assert (row.accuracy, row.seconds) == (0.2, None)


def test_delivery_is_noted_with_the_model_version_and_only_once(
    database, version_id, owner_id
):
    forecast(database, version_id, owner_id)
    job_id = submit(database, version_id, owner_id)
    with database.transaction() as s:
        fence = factories.claim(s, kinds=["train"], worker_id=TIMER).fence
    for accuracy in (0.86, 0.1):
        with database.transaction() as s:
            factories.complete(s, job_id, fence, evaluation={"accuracy": accuracy})

    row = find(database, job_id)

    assert row.delivered_accuracy == 0.86
    assert row.delivered_seconds >= 0
    assert row.delivered_at is not None


def test_a_training_of_several_attempts_delivers_its_accuracy_and_no_time(
    database, version_id, owner_id
):
    forecast(database, version_id, owner_id)
    job_id = submit(database, version_id, owner_id)
    with database.transaction() as s:
        first = factories.claim(s, kinds=["train"]).fence
        attempt_store.end(s, job_id, first, outcome="failed", charge=True,
                          permanent=True)  # fmt: skip
        job_store.retry(s, job_id, actor="user:1")
    with database.transaction() as s:
        fence = factories.claim(s, kinds=["train"]).fence
        factories.complete(s, job_id, fence, evaluation={"accuracy": 0.9})

    require_accuracy_alone(database, job_id)


@pytest.mark.parametrize(
    ("timer", "ran_on"),
    [
        ({"id": TIMER, "name": "gpu"}, 2),
        ({"id": None, "name": None}, TIMER),
        (None, TIMER),
    ],
)
def test_time_on_another_worker_than_was_timed_does_not_count(
    database, version_id, owner_id, timer, ran_on
):
    forecast(database, version_id, owner_id, worker=timer)
    job_id = submit(database, version_id, owner_id)
    with database.transaction() as s:
        fence = factories.claim(s, kinds=["train"], worker_id=ran_on).fence
        factories.complete(s, job_id, fence, evaluation={"accuracy": 0.9})

    require_accuracy_alone(database, job_id)
    told = find_elsewhere(database, job_id)
    assert told.seconds >= 0
    assert told.timed_on == ("gpu" if timer and timer["name"] else None)


def test_a_training_where_it_was_timed_ran_nowhere_else(database, version_id, owner_id):
    forecast(database, version_id, owner_id)
    job_id = submit(database, version_id, owner_id)
    with database.transaction() as s:
        fence = factories.claim(s, kinds=["train"], worker_id=TIMER).fence
    before = find_elsewhere(database, job_id)
    with database.transaction() as s:
        factories.complete(s, job_id, fence, evaluation={"accuracy": 0.9})

    assert (before, find_elsewhere(database, job_id)) == (None, None)
    assert find_elsewhere(database, job_id + 1) is None


def find_elsewhere(database, job_id):
    with database.reading() as s:
        return training_promise_store.find_elsewhere(s, job_id)


def test_record_tells_how_often_and_how_closely_promises_were_kept(
    database, version_id, owner_id
):
    forecast(database, version_id, owner_id)  # fast: 0.84 to 0.91, 25 to 70 s
    for accuracy, seconds in ((0.89, 50), (0.80, 40), (0.90, 400)):
        finish(database, submit(database, version_id, owner_id), accuracy, seconds)
    submit(database, version_id, owner_id)  # not yet delivered

    with database.reading() as s:
        record = training_promise_store.measure(s)
        page = training_promise_store.list_promises(s, page_size=2)

    assert record.accuracy.count == 3
    assert record.accuracy.covered == pytest.approx(2 / 3)
    assert record.accuracy.median_error == pytest.approx(0.02)
    assert record.seconds.median_error == pytest.approx(10)
    assert (page.total, len(page.items)) == (4, 2)
    assert page.items[0].delivered_at is None


def test_record_of_nothing_is_empty(database):
    with database.reading() as s:
        record = training_promise_store.measure(s)

    assert (record.accuracy, record.seconds) == (None, None)
