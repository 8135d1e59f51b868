"""What forecasts learn from: finished trainings of which something was promised."""

from shared import (
    attempt_store,
    job_store,
    training_history_store,
    training_promise_store,
)
from shared.presets import build_training_spec
from shared.tables import DatasetVersion, Job
from tests import factories

PROMISED = {
    "accuracy": [0.8, 0.9, 1.0],
    "seconds": [1, 2, 3],
    "probe": {"accuracy": 0.85, "independent_images": 90},
    "reckoned_seconds": [1, 2, 3],
}


def forecast(s, owner_id, *, worker_id=None):
    """A dataset version with a forecast by that worker."""
    version_id = factories.make_version(s, owner_id)
    version = s.get_one(DatasetVersion, version_id)
    version.report = {"counts": {"train": {"a": 3, "b": 4}, "test": {"a": 2}}}
    summary = {"presets": {"best": PROMISED, "fast": PROMISED}}
    if worker_id is not None:
        summary["worker"] = {"id": worker_id}
    factories.make_forecast_row(s, version_id, owner_id, summary=summary)
    return version


def train(s, version, owner_id, *, accuracy=0.9, preset="best", finish=False, **more):
    """A finished training; `seed` makes another one of the same preset.

    `lost` attempts went before the one that finished it.
    """
    changed = {"seed": more["seed"]} if "seed" in more else more.get("changed", {})
    training = build_training_spec(preset, changed).model_dump(mode="json")
    job_id = factories.make_job(
        s, owner_id, dataset_id=version.dataset_id, dataset_version_id=version.id,
        spec={"training": training, "preset": preset},
    )  # fmt: skip
    training_promise_store.make(s, [job_id])
    for _ in range(more.get("lost", 0)):
        lost = factories.claim(s, kinds=["train"])
        attempt_store.end(s, job_id, lost.fence, outcome="lost", charge=False)
    claim = factories.claim(s, kinds=["train"], worker_id=more.get("worker_id", 0))
    if finish:
        job_store.finish_now(s, job_id, actor="anna")
    evaluation = {"seconds": {"frozen": 3.5}, "classes": ["a", "b"]}
    if accuracy is not None:
        evaluation["accuracy"] = accuracy
    factories.complete(s, job_id, claim.fence, evaluation=evaluation)
    return job_id


def list_history(database, version, **more):
    asked = {"dataset_id": version.dataset_id, "worker_id": None} | more
    with database.reading() as s:
        return training_history_store.list_history(s, **asked)


def test_it_tells_what_trainings_took_reached_and_were_promised(database, owner_id):
    with database.transaction() as s:
        worker_id = factories.make_worker(s)
        version = forecast(s, owner_id, worker_id=worker_id)
        numbers = [
            train(s, version, owner_id, accuracy=accuracy, worker_id=worker_id)
            for accuracy in (0.8, 0.9, None)
        ]

    history = list_history(database, version, worker_id=worker_id)

    assert [row["job_id"] for row in history] == [numbers[1], numbers[0]]
    newest = history[0]
    assert newest["images"] == {"train": 7, "val": 0, "test": 2}
    assert (newest["accuracy"], newest["classes"]) == (0.9, 2)
    assert newest["seconds"] == {"frozen": 3.5}
    assert (newest["same_dataset"], newest["same_worker"]) == (True, True)
    assert newest["promised"] == PROMISED


def test_a_training_that_went_on_after_a_stop_tells_no_time(database, owner_id):
    with database.transaction() as s:
        version = forecast(s, owner_id)
        straight = train(s, version, owner_id)
        moved = train(s, version, owner_id, lost=1)

    history = list_history(database, version)

    assert [row["job_id"] for row in history] == [moved, straight]
    assert history[0]["accuracy"] == 0.9
    assert history[0]["running_seconds"] is None
    assert history[1]["running_seconds"] >= 0


def test_trainings_without_a_promise_do_not_crowd_out_those_with_one(
    database, owner_id
):
    with database.transaction() as s:
        version = forecast(s, owner_id)
        promised = train(s, version, owner_id)
        for _ in range(3):
            train(s, version, owner_id, changed={"image_size_px": 160})

    history = list_history(database, version, limit=2)

    assert [row["job_id"] for row in history] == [promised]


def test_a_sweep_on_one_dataset_does_not_crowd_out_others(database, owner_id):
    with database.transaction() as s:
        other, version = forecast(s, owner_id), forecast(s, owner_id)
        first = train(s, other, owner_id)
        fast = train(s, other, owner_id, preset="fast")
        many = [train(s, version, owner_id, seed=seed) for seed in range(5)]

    history = list_history(database, version, limit=3, of_dataset=4)

    assert [row["job_id"] for row in history] == [many[4], many[3], fast, first]


def test_what_was_finished_early_at_a_wish_teaches_nothing(database, owner_id):
    with database.transaction() as s:
        version = forecast(s, owner_id)
        whole = train(s, version, owner_id)
        early = train(s, version, owner_id, finish=True)

    history = list_history(database, version)

    assert [row["job_id"] for row in history] == [whole]
    with database.reading() as s:
        promise = training_promise_store.find_promise(s, early)
        record = training_promise_store.measure(s)
    assert promise.delivered_at is None
    assert record.accuracy.count == 1


def test_what_an_earlier_release_called_best_teaches_nothing_of_best(
    database, owner_id
):
    with database.transaction() as s:
        version = forecast(s, owner_id)
        today, older, gone = (train(s, version, owner_id) for _ in range(3))
        for job_id, changed in (older, "fine_tune_epochs"), (gone, "no_such_setting"):
            job = s.get_one(Job, job_id)
            training = job.spec["training"] | {changed: 3}
            job.spec = job.spec | {"training": training}

    history = list_history(database, version)

    assert [row["job_id"] for row in history] == [today]


def test_minutes_are_compared_only_where_one_worker_reckoned_and_trained(
    database, owner_id
):
    with database.transaction() as s:
        gpu, cpu = factories.make_worker(s), factories.make_worker(s)
        on_gpu, on_cpu = (forecast(s, owner_id, worker_id=w) for w in (gpu, cpu))
        elsewhere = train(s, on_gpu, owner_id, worker_id=cpu)
        here = train(s, on_cpu, owner_id, worker_id=cpu)

    history = list_history(database, on_cpu, worker_id=cpu)

    assert {row["job_id"]: row["same_worker"] for row in history} == {
        here: True,
        elsewhere: False,
    }
