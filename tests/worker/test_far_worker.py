"""A worker on another host: Postgres and broker over TCP, a data folder of its own.

All that it shares with the rest of the installation is the folder of shared storage.
"""

import pytest
from sqlalchemy import make_url

from shared import worker_store
from shared.artifacts import verify_manifest
from shared.database import Database
from shared.tables import DatasetVersion
from tests.proxy import Proxy
from tests.worker.fleet import straight_run
from tests.worker.ingest.uploads import class_folders
from tests.worker.processes import wait_until

TOY = ["-m", "tests.worker.toy_worker", "--slot", "cpu"]
COMMAND_LINE = ["-m", "cli", "worker"]


@pytest.fixture
def far_fleet(make_fleet, postgres_url):
    database = Database(postgres_url)
    fleet = make_fleet(use_database=database, idle_poll_seconds=60)
    yield fleet
    fleet.close()
    database.dispose()


@pytest.fixture
def doors(far_fleet, postgres, postgres_url):
    """TCP ports of Postgres and of the broker."""
    doors = Proxy(postgres.socket), Proxy(far_fleet.broker.socket)
    yield doors
    for door in doors:
        door.close()


@pytest.fixture
def addresses(doors, postgres_url):
    database, broker = doors
    url = make_url(postgres_url)
    place = f"127.0.0.1:{database.port}/{url.database}"
    return {
        "database_url": f"postgresql+psycopg://{url.username}@{place}",
        "redis_url": f"redis://127.0.0.1:{broker.port}/0",
    }


def test_job_rung_for_over_tcp_is_done_by_a_worker_that_joined(
    far_fleet, doors, addresses
):
    far_fleet.start_far_worker("two", TOY, **addresses)
    far_fleet.wait_for_listener()
    job_id = far_fleet.shop.submit(steps=10)
    far_fleet.ring()

    far_fleet.wait_for_state(job_id, "succeeded")
    (version,) = far_fleet.shop.versions(job_id)
    assert far_fleet.shop.storage.artifact(version.artifact_sha).exists()
    assert all(door.accepted for door in doors)


def test_job_of_a_killed_host_goes_on_at_another_from_its_checkpoint(
    far_fleet, addresses
):
    expected = straight_run(far_fleet, steps=120)
    job_id = far_fleet.shop.submit(steps=120)
    first = far_fleet.start_far_worker("one", TOY, **addresses)
    far_fleet.wait_for_step(job_id)
    first.kill()
    far_fleet.start_far_worker("two", TOY, **addresses)
    # Not until it is queued: a worker that has just started claims it at once.
    far_fleet.sweep_until_lost(job_id)
    far_fleet.ring()
    far_fleet.wait_for_state(job_id, "succeeded")

    lost, resumed = far_fleet.shop.attempts(job_id)
    assert (lost.outcome, resumed.outcome) == ("lost", "succeeded")
    assert resumed.start_step >= 10
    assert far_fleet.shop.weights(job_id) == expected


def test_command_line_joins_reads_a_dataset_and_leaves_in_order(far_fleet, addresses):
    shop = far_fleet.shop
    upload = shop.storage.upload("u1") / "pictures"
    for name, content in class_folders(each=8).items():
        (upload / name).parent.mkdir(parents=True, exist_ok=True)
        (upload / name).write_bytes(content)
    source = {"type": "folder", "path": "uploads/u1/pictures", "name": "pictures"}
    job_id = shop.submit_ingest(sources=[source])
    worker = far_fleet.start_far_worker("two", [*COMMAND_LINE, "--ingest"], **addresses)
    far_fleet.wait_for_state(job_id, "succeeded", timeout=120)
    worker.terminate()

    assert worker.wait(30) == 0
    job = shop.job(job_id)
    with shop.database.reading() as session:
        version = session.get_one(DatasetVersion, job.dataset_version_id)
        (row,) = worker_store.list_workers(session)
    assert version.images == 16
    verify_manifest(shop.storage.resolve(version.rel_path))
    assert (row.slot, row.status) == ("ingest", "gone")
    wait_until(lambda: not upload.exists(), what="the upload to be removed")
