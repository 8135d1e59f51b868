"""The tus protocol, word by word: what each request may say and is answered."""

import errno
import json
import os
import shutil
import threading
from email.utils import parsedate_to_datetime

import pytest

from shared.file_locks import try_lock
from shared.garbage import UPLOAD_LOCK, collect_garbage
from tests.web.tus import PIECE, VERSION, Tus, checksum, metadata, place
from web.datasets import upload as uploads
from web.uploads import store

DAY_SECONDS = 24 * 3600


@pytest.fixture
def tus(api, ana):
    return Tus(api(ana.user_id))


def folder_of(rows, path):
    return rows.storage.upload(path.rsplit("/", 1)[-1])


def age(rows, path, seconds):
    folder = folder_of(rows, path)
    for file in (*folder.iterdir(), folder):
        then = file.stat().st_mtime - seconds
        os.utime(file, (then, then))


def collect(rows):
    return collect_garbage(rows.database, rows.storage, max_feature_cache_bytes=0)


def test_the_server_says_what_it_can_do(tus):
    answer = tus.api("OPTIONS", "/uploads")

    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert "termination" in answer.headers["Tus-Extension"].split(",")
    assert answer.headers["Tus-Max-Size"] == str(64 * 2**20)
    assert "sha1" in answer.headers["Tus-Checksum-Algorithm"].split(",")


def test_an_upload_grows_piece_by_piece(tus, rows):
    path = place(tus.create(10))

    first = tus.append(path, 0, b"01234")
    told = tus.ask("HEAD", path)
    second = tus.append(path, 5, b"56789")

    assert (first.status_code, first.headers["Upload-Offset"]) == (204, "5")
    assert first.headers["Tus-Resumable"] == "1.0.0"
    assert told.headers["Upload-Offset"] == "5"
    assert told.headers["Upload-Length"] == "10"
    assert told.headers["Cache-Control"] == "no-store"
    assert told.headers["Upload-Metadata"] == metadata(filename="cells.zip")
    assert second.headers["Upload-Offset"] == "10"
    assert (folder_of(rows, path) / "cells.zip").read_bytes() == b"0123456789"


def test_the_length_may_be_told_with_the_last_piece(tus):
    path = place(tus.create(**{"Upload-Defer-Length": "1"}))

    told = tus.ask("HEAD", path)
    tus.append(path, 0, b"01234")
    last = tus.append(path, 5, b"", {"Upload-Length": "5"})
    other = tus.append(path, 5, b"", {"Upload-Length": "6"})

    assert told.headers["Upload-Defer-Length"] == "1"
    assert last.status_code == 204
    assert tus.ask("HEAD", path).headers["Upload-Length"] == "5"
    assert other.status_code == 409


def test_a_damaged_piece_is_refused_and_nothing_of_it_kept(tus):
    path = place(tus.create(10))
    for algorithm in ("sha1", "sha256"):
        right = checksum(b"01234", algorithm)
        damaged = tus.append(path, 0, b"01235", right)
        assert damaged.status_code == 460
        assert "damaged" in damaged.json["detail"]
        assert tus.offset(path) == 0

    assert tus.append(path, 0, b"01234", right).headers["Upload-Offset"] == "5"


def test_a_checksum_that_cannot_be_checked_is_refused(tus):
    path = place(tus.create(5))

    for header in ("crc32 AAAA", "sha256", "sha256 ?", "sha1 é"):
        answer = tus.append(path, 0, b"01234", {"Upload-Checksum": header})
        assert answer.status_code == 400, header
    assert tus.offset(path) == 0


UNFIT_PIECES = [
    (3, b"34", {}, 409),
    (0, b"0123456789A", {}, 413),
    (0, b"0", {"Content-Type": "text/plain"}, 415),
    (0, b"0", {"Tus-Resumable": "0.2.2"}, 412),
    (0, b"0", {"Upload-Offset": "-1"}, 400),
    (0, b"0", {"Upload-Offset": "9" * 30}, 400),
    (0, b"0", {"Upload-Length": str(2**40)}, 413),
]


def test_a_piece_that_does_not_fit_changes_nothing(tus):
    path = place(tus.create(10))

    for offset, piece, headers, status in UNFIT_PIECES:
        answer = tus.append(path, offset, piece, headers)
        assert answer.status_code == status, headers
        assert answer.content_type == "application/problem+json"
        assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert tus.offset(path) == 0


UNFIT_UPLOADS = [
    ({}, 400),
    ({"Upload-Length": "-1"}, 400),
    ({"Upload-Length": "1", "Upload-Defer-Length": "1"}, 400),
    ({"Upload-Defer-Length": "2"}, 400),
    ({"Upload-Length": str(64 * 2**20 + 1)}, 413),
    ({"Upload-Length": "1", "Tus-Resumable": "2.0.0"}, 412),
    ({"Upload-Length": "1", "Upload-Metadata": "filename"}, 400),
    ({"Upload-Length": "1", "Upload-Metadata": "filename %%%"}, 400),
    ({"Upload-Length": "1", "Upload-Metadata": "filename " + "/w=="}, 400),
    ({"Upload-Length": "1", "Upload-Metadata": "x" * 5000}, 400),
    ({"Upload-Length": "1", "Upload-Metadata": metadata(filename="a.exe")}, 400),
]


def test_what_cannot_be_an_upload_is_refused(tus, rows):
    for headers, status in UNFIT_UPLOADS:
        answer = tus.create(**headers)
        assert answer.status_code == status, headers
        assert answer.json["detail"]
    assert not list(rows.storage.root.glob("uploads/*"))


def test_a_hostile_name_stays_a_name(tus, rows):
    for filename in (
        "../../etc/cron.d/x.zip",
        "a\x00b\r\nX: y.zip",
        "图片.tar.gz",
        "x" * 500 + ".zip",
    ):
        path = place(tus.create(3, filename))
        (data,) = [
            file
            for file in folder_of(rows, path).iterdir()
            if file.name not in {"info.json", UPLOAD_LOCK}
        ]
        assert data.name.isascii()
        assert data.resolve().is_relative_to(rows.storage.root.resolve())
        shown = tus.api("GET", path).json["filename"]
        assert "/" not in shown
        assert len(shown) <= 100


def test_an_id_that_names_nothing_is_not_found(tus):
    for upload_id in (
        "0" * 32, "x", "..", "%2e%2e", "a" * 5000, "..%2f..%2fetc", "0" * 31 + "%00",
    ):  # fmt: skip
        for method in ("HEAD", "GET", "DELETE"):
            assert tus.ask(method, f"/uploads/{upload_id}").status_code == 404
        assert tus.append(f"/uploads/{upload_id}", 0, b"x").status_code == 404


def test_an_upload_is_its_owners_alone(tus, api, bob, root):
    path = place(tus.create(5))
    tus.append(path, 0, b"01")

    for other in (Tus(api(bob.user_id)), Tus(api(root.user_id))):
        assert other.ask("HEAD", path).status_code == 404
        assert other.append(path, 2, b"234").status_code == 404
        assert other.ask("DELETE", path).status_code == 404
        assert other.api("GET", "/uploads").json == {"items": []}
    assert tus.offset(path) == 2


def test_uploads_that_are_not_used_yet_are_listed(tus):
    told = {"Upload-Metadata": metadata(filename="cells.zip", fingerprint="f1")}
    path = place(tus.create(5, **told))
    tus.append(path, 0, b"01")

    (item,) = tus.api("GET", "/uploads").json["items"]

    assert item["id"] == path.rsplit("/", 1)[-1]
    assert (item["offset"], item["length"], item["fingerprint"]) == (2, 5, "f1")


def test_a_removed_upload_is_gone(tus, rows):
    path = place(tus.create(5))

    assert tus.ask("DELETE", path).status_code == 204
    assert tus.ask("HEAD", path).status_code == 404
    assert tus.append(path, 0, b"01234").status_code == 404
    assert not folder_of(rows, path).exists()


def test_clients_that_can_only_post_say_what_they_mean(tus):
    path = place(tus.create(5))
    meant = {**PIECE, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}

    assert tus.ask("POST", path, meant, data=b"01234").status_code == 204
    assert tus.offset(path) == 5
    assert tus.ask("POST", path).status_code == 405


def test_an_upload_says_when_it_expires_and_each_byte_puts_that_off(tus, rows):
    path = place(tus.create(5))
    age(rows, path, DAY_SECONDS - 60)

    before = parsedate_to_datetime(tus.ask("HEAD", path).headers["Upload-Expires"])
    after = parsedate_to_datetime(tus.append(path, 0, b"01").headers["Upload-Expires"])

    assert (after - before).total_seconds() > DAY_SECONDS - 120


def test_an_upload_that_was_given_up_is_collected(tus, rows):
    path, kept = place(tus.create(5)), place(tus.create(5))
    age(rows, path, DAY_SECONDS + 60)
    age(rows, kept, DAY_SECONDS + 60)
    tus_folder = folder_of(rows, kept)
    os.utime(tus_folder / "cells.zip")  # grows

    refused = tus.append(path, 0, b"01234")
    removed = collect(rows)

    assert refused.status_code == 410
    assert "24 hours" in refused.json["detail"]
    assert removed == [f"uploads/{path.rsplit('/', 1)[-1]}"]
    assert tus.ask("HEAD", path).status_code == 404
    assert tus.offset(kept) == 0


def test_an_upload_in_use_is_not_collected(tus, rows):
    path = place(tus.create(5))
    age(rows, path, DAY_SECONDS + 60)

    with try_lock(folder_of(rows, path) / UPLOAD_LOCK, shared=False):
        assert collect(rows) == []
    assert len(collect(rows)) == 1


def test_of_two_pieces_for_one_place_one_wins(tus, api, ana, rows):
    path = place(tus.create(4000))
    start = threading.Barrier(4)
    answers = []

    def send(letter):
        client = Tus(api(ana.user_id))
        start.wait()
        answers.append(client.append(path, 0, letter * 4000).status_code)

    threads = [threading.Thread(target=send, args=(b"%d" % n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [204, 409, 409, 409]
    data = (folder_of(rows, path) / "cells.zip").read_bytes()
    assert data in {b"%d" % n * 4000 for n in range(4)}


def test_an_upload_that_is_locked_for_long_says_so(tus, rows, monkeypatch):
    monkeypatch.setattr(store, "LOCK_PATIENCE_SECONDS", 0.1)
    path = place(tus.create(5))

    with try_lock(folder_of(rows, path) / UPLOAD_LOCK, shared=False):
        assert tus.append(path, 0, b"01234").status_code == 423
    assert tus.append(path, 0, b"01234").status_code == 204


def test_what_would_not_fit_is_refused_before_it_comes(tus, rows, monkeypatch):
    nearly_full = shutil.disk_usage("/")._replace(free=uploads.RESERVE_BYTES + 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: nearly_full)

    answer = tus.create(2**20)

    assert answer.status_code == 507
    assert not list(rows.storage.root.glob("uploads/*"))


def test_a_full_disk_keeps_what_has_come(tus, monkeypatch):
    headers = checksum(b"56789")
    path = place(tus.create(10))
    tus.append(path, 0, b"01234")

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("os.pwrite", refuse)
        answer = tus.append(path, 5, b"56789", headers)

    assert answer.status_code == 507
    assert "is kept" in answer.json["detail"]
    assert tus.offset(path) == 5
    assert tus.append(path, 5, b"56789", headers).status_code == 204


def test_a_disk_that_fills_up_stops_an_upload_that_can_go_on(tus, monkeypatch):
    path = place(tus.create(10))
    nearly_full = shutil.disk_usage("/")._replace(free=uploads.RESERVE_BYTES - 1)
    with monkeypatch.context() as full:
        full.setattr("shutil.disk_usage", lambda _: nearly_full)
        answer = tus.append(path, 0, b"01234")

    assert answer.status_code == 507
    assert tus.append(path, 0, b"01234").status_code == 204


def test_half_an_upload_is_never_seen(tus, rows):
    path = place(tus.create(5))
    (folder_of(rows, path) / "info.json").write_text('{"owner_id": 1, "fi')

    assert tus.ask("HEAD", path).status_code == 404
    assert tus.api("GET", "/uploads").json == {"items": []}


def test_one_user_cannot_make_folders_without_end(tus, monkeypatch):
    monkeypatch.setattr(store, "MAX_PER_USER", 2)

    answers = [tus.create(5).status_code for _ in range(3)]

    assert answers == [201, 201, 400]


def test_the_pages_take_pieces_with_a_session_and_a_form_token(ana, person):
    token = ana.token("/datasets/add")
    told = {
        **VERSION, "Upload-Length": "5", "Accept": "application/json",
        "Upload-Metadata": metadata(filename="a.zip"),
    }  # fmt: skip

    made = ana.post("/uploads", headers={**told, "X-CSRFToken": token})
    path = made.headers["Location"]
    piece = {**VERSION, **PIECE, "Upload-Offset": "0", "Accept": "application/json"}
    with_token = {**piece, "X-CSRFToken": token}

    assert ana.post("/uploads", headers=told).status_code == 400
    assert ana.patch(path, headers=piece, data=b"01234").status_code == 400
    assert person.patch(path, headers=with_token, data=b"01234").status_code in {
        400, 401, 403,
    }  # fmt: skip
    answer = ana.patch(path, headers=with_token, data=b"01234")
    assert answer.headers["Upload-Offset"] == "5"
    (item,) = json.loads(ana.get("/uploads").text)["items"]
    assert item["offset"] == 5


def test_strangers_cannot_make_the_server_read_a_long_piece(person):
    answer = person.patch(
        "/uploads/" + "0" * 32,
        headers={**VERSION, **PIECE, "X-CSRFToken": person.token()},
        data=b"x" * (3 * 2**20),
    )

    assert answer.status_code in {400, 401, 413}
