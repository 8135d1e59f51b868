"""Forecast jobs under the supervisor: told what is known, published once."""

import json

import pytest

from shared import (
    attempt_store,
    dataset_delete_store,
    finding_decision_store,
    forecast_store,
    job_store,
    worker_store,
)
from shared.artifacts import write_manifest
from tests.worker.supervised import once
from tests.worker.toy_forecast import KILLED, SLOW
from tests.worker.workshop import TOY_STANDBYS
from worker import slots
from worker.programs import COMMANDS
from worker.slots import Slot
from worker.standby import Standby


def read_spec(shop, claim):
    return json.loads((shop.folder(claim) / "spec.json").read_text())


def misbehave(shop, job_id, fault):
    shop.storage.job(job_id).mkdir(parents=True)
    (shop.storage.job(job_id) / fault).touch()


def is_running(shop, job_id):
    return shop.job(job_id).phase == "write"


class TestForecast:
    def test_forecast_is_published_below_its_dataset(self, shop):
        job_id = shop.submit_forecast()
        claim = shop.run_one()

        assert shop.job(job_id).state == "succeeded"
        (row,) = shop.forecasts(job_id)
        assert row.rel_path == f"datasets/1/forecasts/{job_id}-{claim.fence}"
        assert (shop.storage.resolve(row.rel_path) / "findings.parquet").exists()
        assert row.summary["winner"] == "EfficientNetLite1"
        assert shop.job(job_id).result["findings"] == 18

    def test_child_is_told_what_is_known(self, shop):
        with shop.database.transaction() as s:
            worker_id = worker_store.register(
                s, name="w", host="h", slot="cpu", kinds=["forecast"],
                queues=["default"],
                base_models={"ready": ["MobileNet", "EfficientNetLite0", "VGG16"]},
            )  # fmt: skip
            finding_decision_store.accept(s, 1, {"k" * 32: "outlier"}, actor="user:1")
        shop.submit_forecast()
        claim = shop.run_one(shop.claim(worker_id=worker_id))

        spec = read_spec(shop, claim)
        assert spec["kind"] == "forecast"
        assert spec["dataset"] == str(shop.storage.resolve("datasets/1/1"))
        assert spec["caches"] == str(shop.storage.root)
        assert spec["accepted"] == ["k" * 32]
        assert spec["base_models"] == ["EfficientNetLite0", "MobileNet", "VGG16"]
        assert spec["history"] == []
        assert spec["worker"] == {"id": worker_id, "name": "w"}
        assert spec["job"]["id"] == claim.job_id

    def test_result_of_a_killed_child_is_published_all_the_same(self, shop):
        job_id = shop.submit_forecast()
        misbehave(shop, job_id, KILLED)
        shop.run_one()

        assert shop.job(job_id).state == "succeeded"
        assert len(shop.forecasts(job_id)) == 1

    def test_cancelled_forecast_stops_and_publishes_nothing(self, shop):
        job_id = shop.submit_forecast()
        misbehave(shop, job_id, SLOW)
        once(
            lambda: is_running(shop, job_id), lambda: shop.ask(job_store.cancel, job_id)
        )
        shop.run_one()

        assert shop.job(job_id).state == "cancelled"
        assert shop.forecasts(job_id) == []

    def test_dataset_is_deleted_under_a_running_forecast(self, shop):
        job_id = shop.submit_forecast()
        misbehave(shop, job_id, SLOW)

        def delete():
            with shop.database.transaction() as s:
                plan = dataset_delete_store.delete_dataset(s, 1, actor="user:1")
            shop.storage.remove(plan.paths)

        once(lambda: is_running(shop, job_id), delete)
        shop.run_one()

        assert shop.job(job_id).state == "cancelled"
        assert not shop.storage.dataset(1).exists()

    def test_forecast_that_lost_its_lease_is_made_by_the_next_attempt(self, shop):
        job_id = shop.submit_forecast()
        first = shop.claim()
        with shop.database.transaction() as s:
            attempt_store.end(s, job_id, first.fence, outcome="lost", charge=False)
        second = shop.claim()
        shop.run_one(first)
        assert shop.forecasts(job_id) == []
        shop.run_one(second)

        (row,) = shop.forecasts(job_id)
        assert row.rel_path.endswith(f"/{job_id}-{second.fence}")

    def test_infinite_numbers_are_unknown_ones(self, shop):
        job_id = shop.submit_forecast()
        claim = shop.claim()
        folder = shop.storage.forecast(1, f"{job_id}-{claim.fence}")
        folder.mkdir(parents=True)
        (folder / "forecast.json").write_text('{"a": [NaN, {"b": Infinity}]}')
        (folder / "findings.parquet").write_bytes(b"")
        take_over_published(shop, claim, folder)

        (row,) = shop.forecasts(job_id)
        assert row.summary == {"a": [None, {"b": None}]}

    def test_result_without_findings_is_made_again(self, shop):
        job_id = shop.submit_forecast()
        claim = shop.claim()
        folder = shop.storage.forecast(1, f"{job_id}-{claim.fence}")
        folder.mkdir(parents=True)
        (folder / "forecast.json").write_text("{}")
        second = take_over_published(shop, claim, folder)

        (row,) = shop.forecasts(job_id)
        assert row.rel_path.endswith(f"/{job_id}-{second.fence}")


def take_over_published(shop, claim, folder):
    """An attempt died after it had renamed its result; the next one takes over."""
    sha = write_manifest(folder)
    with shop.database.transaction() as s:
        attempt_store.register_checkpoint(
            s, claim.job_id, claim.fence, step=0, kind="final",
            rel_path=shop.storage.relative(shop.folder(claim) / "final"),
            manifest_sha=sha, size_bytes=7, metric=None,
        )  # fmt: skip
        attempt_store.end(s, claim.job_id, claim.fence, outcome="lost", charge=False)
    return shop.run_one()


class TestAfterAnIngest:
    @pytest.mark.parametrize("wanted", [True, False])
    def test_new_version_is_forecast_where_that_is_wanted(self, shop, wanted):
        shop.settings = shop.settings.model_copy(update={"forecast_on_add": wanted})
        job_id = shop.submit_ingest()
        shop.run_one()

        version_id = shop.job(job_id).dataset_version_id
        with shop.database.reading() as s:
            found = forecast_store.find_job(s, 1, version_id)
        assert (found is not None) == wanted

    def test_forecast_then_runs_by_itself(self, shop):
        shop.settings = shop.settings.model_copy(update={"forecast_on_add": True})
        shop.submit_ingest()
        shop.run_one()
        claim = shop.run_one()

        assert claim.kind == "forecast"
        assert len(shop.forecasts(claim.job_id)) == 1


def test_trainer_that_stands_by_is_left_to_trainings(shop):
    slot = Slot("cpu", slots.TRAINING)
    standby = Standby(shop.settings, slot, TOY_STANDBYS)
    lock = slots.acquire(shop.settings.runtime, slot, grace_seconds=1)
    place = shop.workplace(slot=slot, standby=standby)
    try:
        assert standby.prepare(lock)
        assert place.take_standby("forecast") is None
        assert standby.prepare(lock)  # the same one waits on
        child = place.take_standby("train")
        assert child is not None
        child.end_now()
        child.close()
    finally:
        standby.end()
        lock.release()


def test_every_training_slot_forecasts_and_says_with_which_program():
    assert slots.get_slot("cpu", []).kinds == ("train", "forecast")
    assert slots.get_slot("ingest", []).kinds == ("ingest",)
    assert COMMANDS["forecast"][1:] == ("-m", "worker.insight.run")
