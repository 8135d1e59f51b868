"""Object storage: a real S3 server in a thread, read by the real ingest child."""

import json
import os
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from shared.child_environment import (
    STORE_CREDENTIALS,
    store_credentials,
    take_store_credentials,
)
from shared.errors import OutageError, UserError
from shared.source_addresses import parse_address
from tests.worker.ingest.ingest_process import Ingest
from tests.worker.ingest.uploads import class_folders, png, write_zip
from worker.ingest.found import SkipList
from worker.ingest.limits import Basket, Limits
from worker.ingest.remote.answers import FetchError
from worker.ingest.remote.courier import Courier, Means
from worker.ingest.remote.kept_files import KeptFiles
from worker.ingest.remote.rules import parse_rules
from worker.ingest.remote.sources import open_folder
from worker.ingest.request import ADDRESS, Source

# In one process, so that what its tests share is made once.
pytestmark = pytest.mark.xdist_group("stores")

SECRET = "very-secret-key-of-the-store"
BUCKET = "pictures"


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def put(endpoint, monkeypatch):
    """Puts objects into the bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)

    def put(objects):
        for key, body in objects.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=body)

    yield put
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])


def rules(endpoint, **more):
    return {
        "allowed": [f"s3://{BUCKET}/sets/", "s3://nowhere/"],
        "networks": ["127.0.0.0/8"], "s3_endpoint": endpoint, "tries": 2,
        "backoff_seconds": 0.01, "stall_seconds": 2, **more,
    }  # fmt: skip


def make_courier(tmp_path, endpoint, **more):
    return Courier(
        parse_rules(rules(endpoint, **more)),
        Means(KeptFiles(tmp_path), store_credentials()),
        limits=Limits(),
        basket=Basket(tmp_path / "basket", Limits()),
    )


def read(tmp_path, endpoint, address, **more):
    courier = make_courier(tmp_path, endpoint, **more)
    return courier.fetch_whole(parse_address(address)).read_bytes()


def test_a_folder_of_class_folders_becomes_a_dataset(tmp_path, endpoint, put):
    odd = {"cat/é +%20 雏.png": png(77), "cat/notes.txt": b"x", "cat/.DS_Store": b"x"}
    files = {**class_folders(each=4), **odd, "cat/": b"", "dog/empty.png": b""}
    put({f"sets/pets/{name}": body for name, body in files.items()})
    put({"sets/pets-of-others/cat/1.png": png(99)})
    entry = {"type": "address", "address": f"s3://{BUCKET}/sets/pets/"}

    ingest = Ingest(tmp_path, entry, addresses=rules(endpoint))

    assert ingest.wait() == 0, (ingest.events[-1], ingest.stderr)
    rows = ingest.rows()
    assert {row["label"] for row in rows.values()} == {"cat", "dog"}
    assert len(rows) == 9
    assert "cat/é +%20 雏.png" in rows
    skipped = {skip["file"]: skip["reason"] for skip in ingest.report()["skipped"]}
    assert set(skipped) == {"cat/notes.txt", "cat/.DS_Store", "dog/empty.png"}
    notes = ingest.report()["notes"]
    assert f"Fetched 11 files from s3://{BUCKET}/sets/pets/." in notes
    told = json.dumps(ingest.events) + b"".join(ingest.stderr).decode()
    assert SECRET not in told
    assert "somebody" not in told
    assert ingest.leftovers() == []


def test_an_archive_and_a_table_in_a_bucket_are_read(tmp_path, endpoint, put):
    archive = write_zip(tmp_path / "pets.zip", class_folders(each=3))
    more = class_folders(each=3, start=500)
    lines = "".join(f"{name},{name[:3]}\n" for name in more)
    table = {f"sets/list/{name}": body for name, body in more.items()}
    put({"sets/pets.zip": archive.read_bytes(), **table})
    put({"sets/list/list.csv": f"file,label\n{lines}".encode()})
    entries = [
        {"type": "address", "address": f"s3://{BUCKET}/sets/pets.zip"},
        {
            "type": "address",
            "address": f"s3://{BUCKET}/sets/list/list.csv",
            "root": f"s3://{BUCKET}/sets/list",
        },
    ]

    ingest = Ingest(tmp_path, *entries, addresses=rules(endpoint))

    assert ingest.wait() == 0, (ingest.events[-1], ingest.stderr)
    assert len(ingest.rows()) == 12
    phases = [e["phase"] for e in ingest.events if e["event"] == "phase"]
    assert phases[:2] == ["unpack", "fetch"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://pictures/sets/none.zip", "There is no such object"),
        ("s3://nowhere/none.zip", "There is no such object"),
        ("s3://pictures/other.zip", "not among the addresses"),
        ("s3://pictures/sets-of-others/a.zip", "not among the addresses"),
        ("s3://other-bucket/a.zip", "not among the addresses"),
    ],
)
def test_what_is_not_there_or_not_allowed_is_said(
    tmp_path, endpoint, put, address, words
):
    put({"sets/a.zip": b"x", "other.zip": b"x", "sets-of-others/a.zip": b"x"})

    with pytest.raises(UserError, match=words):
        read(tmp_path, endpoint, address)


@pytest.mark.parametrize("key", ["sets/pets/../../passwd", "sets/pets//2.png"])
def test_an_object_whose_name_is_no_path_is_named_with_what_to_do(
    tmp_path, endpoint, put, key
):
    """The list that it stands in cannot be read at all, so no other comes either."""
    put({"sets/pets/cat/1.png": png(1), key: b"x"})
    address = f"s3://{BUCKET}/sets/pets"
    source = Source(ADDRESS, Path(), "pets", address=address)

    with pytest.raises(UserError) as caught:
        open_folder(source, make_courier(tmp_path, endpoint), SkipList())

    assert str(caught.value).startswith(f"{address} could not be fetched.")
    assert f"“{key}”" in str(caught.value)
    assert "Rename or delete it in the storage" in str(caught.value)


@pytest.mark.parametrize("address", ["s3://pictures/sets//a.zip", "s3://nowhere//a/"])
def test_an_address_that_no_object_can_be_asked_by_is_no_outage(tmp_path, put, address):
    courier = make_courier(tmp_path, "http://127.0.0.1:9")

    with pytest.raises(UserError, match="“//”"):
        courier.fetch_whole(parse_address(address))
    with pytest.raises(FetchError, match="“//”"):
        list(courier.stores.list_below(parse_address(address)))


def test_an_endpoint_in_a_private_network_needs_the_second_setting(
    tmp_path, endpoint, put
):
    put({"sets/a.zip": b"whole"})

    assert read(tmp_path, endpoint, f"s3://{BUCKET}/sets/a.zip") == b"whole"
    with pytest.raises(UserError, match="TRAINYARD_SOURCE_NETWORKS does not allow"):
        read(tmp_path, endpoint, f"s3://{BUCKET}/sets/a.zip", networks=[])


def test_a_storage_that_is_down_may_come_back(tmp_path, put):
    with pytest.raises(OutageError, match="Its storage does not answer"):
        read(tmp_path, "http://127.0.0.1:9", f"s3://{BUCKET}/sets/a.zip")


def test_all_of_object_storage_leaves_the_environment(put, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://elsewhere.example.org")

    taken = take_store_credentials()

    assert taken["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert "AWS_ENDPOINT_URL" not in taken
    assert not {name for name in os.environ if name.startswith("AWS_")}


def test_keys_that_cannot_be_used_are_not_repeated(tmp_path, put, monkeypatch):
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", SECRET)
    courier = make_courier(tmp_path, "http://127.0.0.1:9", allowed=["gs://"])

    with pytest.raises(UserError, match="credentials of its storage") as caught:
        courier.fetch_whole(parse_address("gs://bucket/a.zip"))

    assert SECRET not in str(caught.value)


def test_every_credential_is_one_that_the_storages_know():
    from obstore.exceptions import UnknownConfigurationKeyError  # noqa: PLC0415
    from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415

    for name in STORE_CREDENTIALS:
        build = {"AWS": S3Store, "GOO": GCSStore, "AZU": AzureStore}[name[:3]]
        try:
            build("bucket", config={name.lower(): "true"})
        except UnknownConfigurationKeyError:
            pytest.fail(name)
        except Exception:  # noqa: BLE001 - one key alone need not be enough
            continue
