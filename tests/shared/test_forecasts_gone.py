"""Forecasts go with their dataset, and their folders when a newer one has come."""

import os
import time

import pytest

from shared import (
    attempt_store,
    dataset_delete_store,
    job_store,
)
from shared.artifacts import Storage
from shared.errors import Cancelled, ConflictError
from shared.forecast_tables import Forecast
from shared.garbage import collect_garbage
from shared.tables import Dataset, DatasetVersion
from tests import factories
from tests.shared.asked_forecasts import ask, list_forecast_jobs


class TestDeletingTheDataset:
    def delete(self, database, version_id):
        with database.reading() as s:
            dataset_id = s.get_one(DatasetVersion, version_id).dataset_id
        return database.tx(
            lambda s: dataset_delete_store.delete_dataset(s, dataset_id, actor="user:1")
        )

    def test_forecasts_and_their_jobs_go_with_it(self, database, version_id, owner_id):
        with database.transaction() as s:
            factories.make_forecast_row(s, version_id, owner_id)
        (made,) = list_forecast_jobs(database)
        waiting = ask(database, version_id, owner_id, again=True)

        plan = self.delete(database, version_id)

        assert list_forecast_jobs(database) == []
        assert {f"jobs/{made.id}", f"jobs/{waiting.job_id}"} <= set(plan.paths)
        assert plan.counts["forecast_jobs"] == 2
        with database.reading() as s:
            assert (s.query(Forecast).count(), s.query(Dataset).count()) == (0, 0)

    def test_running_forecast_is_cancelled_and_does_not_block(
        self, database, version_id, owner_id
    ):
        ask(database, version_id, owner_id)
        with database.transaction() as s:
            claim = factories.claim(s, kinds=["forecast"])

        plan = self.delete(database, version_id)

        (job,) = list_forecast_jobs(database)
        assert (job.state, job.desired) == ("running", "cancel")
        assert f"jobs/{job.id}" not in plan.paths  # it is written to until it ends
        with pytest.raises(Cancelled), database.transaction() as s:
            factories.complete_forecast(s, job.id, claim.fence)
        with database.transaction() as s:
            attempt_store.end(s, job.id, claim.fence, outcome="failed", charge=True)
        (job,) = list_forecast_jobs(database)
        assert job.state == "cancelled"
        with pytest.raises(ConflictError, match="its dataset was deleted"):
            database.tx(lambda s: job_store.retry(s, job.id, actor="user:1"))

    def test_training_that_waits_blocks_and_the_forecast_goes_on(
        self, database, version_id, owner_id
    ):
        ask(database, version_id, owner_id)
        with database.transaction() as s:
            dataset_id = s.get_one(DatasetVersion, version_id).dataset_id
            factories.make_job(s, owner_id, dataset_id=dataset_id)

        with pytest.raises(ConflictError, match="cancel first"):
            self.delete(database, version_id)

        (job,) = list_forecast_jobs(database)
        assert (job.state, job.desired) == ("queued", "run")


def test_collection_takes_only_forecasts_that_no_row_names(sqlite_database, tmp_path):
    storage = Storage(tmp_path)
    with sqlite_database.transaction() as s:
        owner_id = factories.make_user(s).id
        version_id = factories.make_version(s, owner_id)
        dataset_id = s.get_one(DatasetVersion, version_id).dataset_id
        kept = f"datasets/{dataset_id}/forecasts/2-1"
        factories.make_forecast_row(s, version_id, owner_id, rel_path=kept)
    folders = [storage.resolve(kept), storage.forecast(dataset_id, "3-1")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "forecast.json").write_text("{}")
        os.utime(folder, (time.time() - 10**6,) * 2)
    os.utime(storage.forecasts(dataset_id), (time.time() - 10**6,) * 2)

    removed = collect_garbage(
        sqlite_database, storage, max_feature_cache_bytes=0, young_seconds=100
    )

    assert removed == [f"datasets/{dataset_id}/forecasts/3-1"]
    assert folders[0].exists()


@pytest.mark.parametrize(
    ("newer_age", "left"),
    [(10**6, ["2-1", "9-1"]), (5, ["1-1", "2-1", "9-1"])],
)
def test_collection_takes_forecasts_that_a_newer_one_followed_a_day_ago(
    database, tmp_path, newer_age, left
):
    storage = Storage(tmp_path)
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        version_id = factories.make_version(s, owner_id)
        dataset_id = s.get_one(DatasetVersion, version_id).dataset_id
        other_id = factories.make_version(s, owner_id)
    for name, version in (("1-1", version_id), ("9-1", other_id), ("2-1", version_id)):
        folder = storage.forecast(dataset_id, name)
        with database.transaction() as s:
            factories.make_forecast_row(
                s, version, owner_id, rel_path=storage.relative(folder)
            )
        folder.mkdir(parents=True)
        age = newer_age if name == "2-1" else 10**6
        os.utime(folder, (time.time() - age,) * 2)

    collect_garbage(database, storage, max_feature_cache_bytes=0, young_seconds=100)

    kept = [path.name for path in sorted(storage.forecasts(dataset_id).iterdir())]
    assert kept == left
    with database.reading() as s:
        assert s.query(Forecast).count() == 3
