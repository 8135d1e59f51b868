"""Bringing datasets in: archives, forms, places on the server, hostile names."""

import errno
import hashlib
import io
import shutil

import pytest

from shared import dataset_store, job_read_store
from tests.web.rows import make_archive
from web.datasets import upload

RAW = {"Content-Type": "application/octet-stream"}


def send(api, content=None, *, key=None, **query):
    headers = RAW | ({"Idempotency-Key": key} if key else {})
    content = make_archive() if content is None else content
    return api("POST", "/datasets", query_string=query, data=content, headers=headers)


@pytest.fixture
def ana_api(api, ana):
    return api(ana.user_id)


def get_job(rows, job_id):
    with rows.database.reading() as session:
        return job_read_store.get_job(session, job_id)


def test_an_upload_becomes_a_dataset_and_an_ingest_job(ana_api, rows):
    answer = send(ana_api, filename="solar cells.zip")

    assert answer.status_code == 201
    assert answer.json["name"] == "solar cells"
    source = get_job(rows, answer.json["job_id"]).spec["sources"][0]
    assert source["type"] == "archive"
    assert source["name"] == "solar cells.zip"
    assert (rows.storage.root / source["path"]).read_bytes() == make_archive()


def test_a_page_shows_the_digest_of_everything_that_was_uploaded(ana, ana_api, rows):
    dataset = rows.dataset(ana.user_id)
    for content in (make_archive(), make_archive(1)):
        number = send(ana_api, content, filename="a.zip", dataset_id=dataset).json
        rows.finish(number["job_id"], dataset)
    rows.version(ana.user_id, dataset)  # by decisions, of nothing that was uploaded

    page = ana.get(f"/datasets/{dataset}").text

    for content in (make_archive(), make_archive(1)):
        assert hashlib.sha256(content).hexdigest() in page


def test_a_repeated_upload_makes_no_second_dataset(ana_api, rows):
    first = send(ana_api, filename="a.zip", key="k1")
    second = send(ana_api, filename="a.zip", key="k1")

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json["id"] == second.json["id"]
    assert len(list((rows.storage.root / "uploads").iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "query"),
    [
        (make_archive(1), {"filename": "a.zip"}),
        (make_archive(), {"filename": "b.zip"}),
        (make_archive(), {"filename": "a.zip", "name": "cells"}),
    ],
)
def test_the_same_key_for_another_upload_is_a_conflict(ana_api, rows, content, query):
    send(ana_api, make_archive(), filename="a.zip", key="k1")

    answer = send(ana_api, content, key="k1", **query)

    assert answer.status_code == 409
    assert answer.json["field"] == "idempotency_key"
    assert len(list((rows.storage.root / "uploads").iterdir())) == 1


def test_the_same_key_for_another_place_is_a_conflict(ana_api, roots):
    answers = []
    for name in ("one", "two", "two"):
        (roots / name).mkdir(exist_ok=True)
        answers.append(
            ana_api(
                "POST", "/datasets", json={"path": str(roots / name)},
                headers={"Idempotency-Key": f"key of {len(answers) // 2}"},
            ).status_code
        )  # fmt: skip

    assert answers == [201, 409, 201]


def test_an_upload_stops_while_there_is_still_room_for_others(tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "LOOK_BYTES", 1)
    nearly_full = shutil.disk_usage("/")._replace(free=upload.RESERVE_BYTES - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: nearly_full)
    limits = upload.Limits(most=2**30, expected=None)

    with pytest.raises(upload.DiskFullError, match="must keep 256 MiB"):
        upload.receive(io.BytesIO(b"x"), tmp_path / "a" / "a.zip", limits)

    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_and_leaves_nothing_behind(ana_api, rows, monkeypatch):
    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)

    answer = send(ana_api, filename="a.zip")

    assert answer.status_code == 507
    assert "disk is full" in answer.json["detail"]
    assert not list(rows.storage.root.glob("uploads/*"))


def test_a_name_from_a_file_is_numbered_when_taken(ana_api):
    names = [send(ana_api, filename="a.zip").json["name"] for _ in range(3)]

    assert names == ["a", "a 2", "a 3"]


def test_a_name_asked_for_is_refused_when_taken(ana_api):
    send(ana_api, filename="a.zip", name="cells")

    answer = send(ana_api, filename="b.zip", name="cells")

    assert answer.status_code == 409
    assert answer.json["field"] == "name"


def test_too_large_an_upload_leaves_nothing_behind(ana_api, rows, app):
    object.__setattr__(app.extensions["trainyard"].settings, "max_upload_bytes", 100)

    answer = send(ana_api, b"x" * 101, filename="a.zip")

    assert answer.status_code == 413
    assert "larger than" in answer.json["detail"]
    assert not list(rows.storage.root.glob("uploads/*/*"))


def test_an_empty_upload_is_refused(ana_api):
    assert send(ana_api, b"", filename="a.zip").status_code == 400


@pytest.mark.parametrize("filename", ["a.rar", "zip", ".zip", "", "a.zip.exe"])
def test_what_is_no_archive_is_refused_before_it_is_read(ana_api, filename):
    answer = send(ana_api, filename=filename)

    assert answer.status_code == 400
    assert "not an archive" in answer.json["detail"]


@pytest.mark.parametrize(
    "filename",
    [
        "../../../../etc/cron.d/x.zip",
        "C:\\Users\\ana\\x.zip",
        "a\x00b\r\nSet-Cookie: x.zip",
        "<script>alert(1)</script>.zip",
        "\u202egpj.zip",
        "x" * 5000 + ".zip",
        "ünï çødé 图片.tar.gz",
    ],
)
def test_a_hostile_file_name_stays_a_name(ana, ana_api, rows, filename):
    answer = send(ana_api, filename=filename)

    assert answer.status_code == 201
    path = get_job(rows, answer.json["job_id"]).spec["sources"][0]["path"]
    assert path.startswith("uploads/")
    assert (rows.storage.root / path).is_file()
    assert ".." not in path
    assert path.isascii()
    assert len(answer.json["name"]) <= 80
    html = ana.get(f"/datasets/{answer.json['id']}").text
    assert "<script>alert" not in html


@pytest.mark.parametrize("name", ["a/b", "", "x" * 81, "a?b", "..", "a#b"])
def test_a_name_that_would_break_addresses_is_refused(ana_api, name):
    answer = ana_api("POST", "/datasets", json={"path": "/x", "name": name})

    assert answer.status_code == 400


def test_the_plain_form_takes_several_archives(ana, rows):
    files = [(io.BytesIO(make_archive(i)), f"set {i}.zip") for i in range(2)]
    data = {"csrf_token": ana.token("/datasets/add"), "files": files}

    answer = ana.post("/datasets/upload-form", data=data)

    assert answer.location == "/datasets"
    with rows.database.reading() as session:
        found = dataset_store.list_datasets(session).items
    assert {dataset.name for dataset in found} == {"set 0", "set 1"}


def test_the_plain_form_sent_twice_makes_no_second_dataset(ana, rows):
    token = ana.token("/datasets/add")

    for _ in range(2):
        files = [(io.BytesIO(make_archive(i)), f"set {i}.zip") for i in range(2)]
        data = {"csrf_token": token, "key": "k", "files": files}
        ana.post("/datasets/upload-form", data=data)

    with rows.database.reading() as session:
        assert dataset_store.list_datasets(session).total == 2


def test_strangers_cannot_make_the_server_read_a_long_form(person, app):
    token = person.token()
    too_long = b"x" * (3 * 2**20)
    data = {"csrf_token": token, "files": [(io.BytesIO(too_long), "a.zip")]}

    answer = person.post("/datasets/upload-form", data=data)

    assert answer.status_code in {400, 413}


def test_a_folder_on_the_server_can_be_named(ana_api, rows, roots):
    (roots / "cells").mkdir()

    answer = ana_api("POST", "/datasets", json={"path": str(roots / "cells")})

    assert answer.status_code == 201
    source = get_job(rows, answer.json["job_id"]).spec["sources"][0]
    assert source == {"type": "folder", "path": str(roots / "cells"), "name": "cells"}


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc",
        "relative",
        "{root}/../secret",
        "{root}/link",
        "{root}/none",
    ],
)
def test_only_the_offered_folders_are_read(ana_api, roots, tmp_path, path):
    (tmp_path / "secret").mkdir()
    (roots / "link").symlink_to(tmp_path / "secret")

    answer = ana_api("POST", "/datasets", json={"path": path.format(root=roots)})

    assert answer.status_code == 400
    assert answer.json["field"] == "path"


def test_a_labels_file_outside_the_offered_folders_is_refused(ana_api, roots):
    (roots / "cells").mkdir()
    body = {"path": str(roots / "cells"), "labels": "/etc/passwd"}

    assert ana_api("POST", "/datasets", json=body).json["field"] == "labels"
