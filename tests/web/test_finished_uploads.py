"""Finished uploads become datasets: whole, checked, once, whoever asks again."""

import hashlib

import pytest

from shared import dataset_store, job_read_store
from shared.garbage import collect_garbage
from tests.web.rows import make_archive
from tests.web.tus import Tus, place
from web.uploads import finish, tables
from web.uploads.digests import RunningDigests, running

TABLE = b"filename,label\n0.png,red\n"


@pytest.fixture
def tus(api, ana):
    return Tus(api(ana.user_id))


def add(tus, *upload_ids, key=None, digests=None, labels=None, **more):
    headers = {"Idempotency-Key": key} if key else {}
    digests = digests or {}
    sources = [
        {"upload": one, "sha256": digests.get(one), "labels": labels}
        for one in upload_ids
    ]
    body = {"sources": sources, **more}
    return tus.api("POST", "/datasets", json=body, headers=headers)


def spec_of(rows, answer):
    with rows.database.reading() as session:
        return job_read_store.get_job(session, answer.json["job_id"]).spec


def count_datasets(rows):
    with rows.database.reading() as session:
        return dataset_store.list_datasets(session).total


def test_archives_and_a_table_become_one_dataset(tus, rows):
    contents = [make_archive(1), make_archive(2), TABLE]
    names = ["cells 1.zip", "cells 2.zip", "labels.csv"]
    ids = [tus.send(c, n) for c, n in zip(contents, names, strict=True)]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]

    answer = add(tus, *ids, digests=dict(zip(ids, digests, strict=True)))

    assert answer.status_code == 201, answer.text
    assert answer.json["name"] == "cells 1"
    sources = spec_of(rows, answer)["sources"]
    assert [source["type"] for source in sources] == ["archive", "archive", "csv"]
    assert [source["name"] for source in sources] == names
    assert [source["sha256"] for source in sources] == digests
    for source, content in zip(sources, contents, strict=True):
        assert (rows.storage.root / source["path"]).read_bytes() == content


def test_uploads_and_places_together_replace_what_a_dataset_holds(
    tus, ana, rows, roots
):
    dataset = rows.dataset(ana.user_id)
    (roots / "cells").mkdir()
    archive, table = tus.send(make_archive()), tus.send(TABLE, "labels.csv")
    sources = [
        {"path": str(roots / "cells")},
        {"upload": archive},
        {"upload": table},
    ]
    wishes = {"dataset_id": dataset, "mode": "replace", "split_by": "duplicates"}

    answer = tus.api("POST", "/datasets", json={"sources": sources, **wishes})

    assert (answer.status_code, answer.json["id"]) == (201, dataset), answer.text
    spec = spec_of(rows, answer)
    assert [one["type"] for one in spec["sources"]] == [
        "version", "folder", "archive", "csv",
    ]  # fmt: skip
    assert spec["mode"] == "replace"
    assert spec["split"] == {"by": "duplicates"}


def test_a_table_says_where_its_pictures_lie(tus, roots):
    table = {"upload": tus.send(TABLE, "labels.csv")}

    refused = tus.api("POST", "/datasets", json=table)
    taken = tus.api("POST", "/datasets", json={**table, "root": str(roots)})

    assert "holds no pictures" in refused.json["detail"]
    assert taken.status_code == 201, taken.text


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (b"filename,label\nhttps://data.example.org/0.png,red\n", "labels.csv"),
        ("url\tlabel\ns3://pictures/0.png\tred\n".encode("utf-16"), "labels.tsv"),
        (rb'{"file": "https:\/\/data.example.org\/0.png", "label": "red"}', "l.jsonl"),
        (b"PAR1 whose columns are compressed PAR1", "labels.parquet"),
        (b"filename,label\n" + b"x.png,red\n" * 10 + b"gs://b/0.png,red\n", "l.csv"),
    ],
)
def test_a_table_of_addresses_needs_no_archive(tus, rows, monkeypatch, table, name):
    monkeypatch.setattr(tables, "PIECE_BYTES", 7)  # which cuts through addresses

    answer = add(tus, tus.send(table, name))

    assert answer.status_code == 201, answer.text
    assert [one["type"] for one in spec_of(rows, answer)["sources"]] == ["csv"]


def test_the_same_request_is_answered_with_the_same_dataset(tus, rows):
    one, other = tus.send(make_archive(1)), tus.send(make_archive(2))

    first = add(tus, one)
    again = add(tus, one)
    renamed = add(tus, one, name="another")
    with_key = add(tus, one, key="k")
    mixed = add(tus, other, one)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json["id"] == again.json["id"]
    assert (renamed.status_code, with_key.status_code) == (409, 409)
    assert mixed.status_code == 409
    assert "belongs to another dataset" in mixed.json["detail"]
    assert count_datasets(rows) == 1


def test_a_request_that_failed_can_be_mended(tus, rows):
    rows.dataset(rows.user("carl@example.org"), "taken")
    upload_id = tus.send(make_archive())

    assert add(tus, upload_id, name="taken").status_code == 409
    assert add(tus, upload_id, name="free").status_code == 201


def test_a_death_before_the_row_is_written_loses_nothing(tus, rows, monkeypatch):
    content = make_archive()
    upload_id = tus.send(content)

    def die(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr("web.datasets.add.record_ingest", die)
        with pytest.raises(KeyboardInterrupt):
            add(tus, upload_id)
    answer = add(tus, upload_id)

    assert answer.status_code == 201
    source = spec_of(rows, answer)["sources"][0]
    assert (rows.storage.root / source["path"]).read_bytes() == content


def test_what_is_not_as_it_was_sent_makes_no_dataset(tus, rows):
    upload_id = tus.send(make_archive())

    wrong = add(tus, upload_id, digests={upload_id: "0" * 64})

    assert wrong.status_code == 400
    assert "is not what was sent" in wrong.json["detail"]
    assert count_datasets(rows) == 0
    assert tus.ask("DELETE", f"/uploads/{upload_id}").status_code == 204


def test_what_makes_no_dataset_is_refused(tus, api, bob, rows):
    half = place(tus.create(5))
    tus.append(half, 0, b"01")
    unknown = place(tus.create(**{"Upload-Defer-Length": "1"}))
    empty, table = tus.send(b""), tus.send(TABLE, "labels.csv")
    whole = tus.send(make_archive())
    dataset = rows.dataset(bob.user_id)
    asked = [
        ([half.rsplit("/", 1)[-1]], {}, 409, "2 of 5 bytes"),
        ([unknown.rsplit("/", 1)[-1]], {}, 409, "not whole"),
        ([empty], {}, 400, "empty"),
        ([table], {}, 400, "holds no pictures"),
        ([], {}, 400, "1 to 200"),
        ([whole, whole], {}, 400, "twice"),
        (["0" * 32], {}, 404, "no such upload"),
        (["../../x"], {}, 404, "no such upload"),
        ([whole], {"labels": "/etc/passwd"}, 400, "inside the archive"),
        ([whole], {"labels": "../x.csv"}, 400, "inside the archive"),
        ([whole], {"name": "a/b"}, 400, "name of a dataset"),
        ([whole], {"dataset_id": dataset}, 403, "owner"),
        ([whole], {"dataset_id": 999}, 404, ""),
        ([whole], {"mystery": 1}, 422, "mystery"),
    ]

    for uploads, more, status, sentence in asked:
        answer = add(tus, *uploads, **more)
        assert answer.status_code == status, (uploads, more, answer.text)
        assert sentence in answer.json["detail"]
    assert add(Tus(api(bob.user_id)), whole).status_code == 404
    assert count_datasets(rows) == 1


def test_an_upload_that_a_job_reads_stays(tus, rows):
    upload_id = tus.send(make_archive())
    add(tus, upload_id)

    refused = tus.ask("DELETE", f"/uploads/{upload_id}")

    assert refused.status_code == 409
    assert "which reads it" in refused.json["detail"]
    assert tus.api("GET", "/uploads").json == {"items": []}
    assert not collect_garbage(
        rows.database, rows.storage, max_feature_cache_bytes=0, young_seconds=-1
    )


def test_a_long_check_goes_on_where_it_was(tus, monkeypatch):
    monkeypatch.setattr(finish, "READ_SECONDS", -1)
    monkeypatch.setattr("web.uploads.digests.READ_BYTES", 1000)
    content = make_archive() * 3
    upload_id = tus.send(content)
    running.forget(upload_id)  # as if another process had taken the pieces
    monkeypatch.setattr("web.uploads.finish.MIN_READ_SECONDS", 0)

    answers = []
    while not answers or answers[-1].status_code == 503:
        answers.append(add(tus, upload_id))
        assert len(answers) < 100

    assert len(answers) > 2
    assert answers[0].headers["Retry-After"]
    assert "still being checked" in answers[0].json["detail"]
    assert answers[-1].status_code == 201


def test_a_digest_is_right_wherever_the_pieces_went(tmp_path):
    content = bytes(range(256)) * 100
    wanted = hashlib.sha256(content).hexdigest()
    (tmp_path / "data").write_bytes(content)

    for seen in ([(0, 500), (500, 900)], [(0, 500), (900, 1000)], [(500, 900)], []):
        digests = RunningDigests()
        for start, end in seen:
            digests.feed("a", start, content[start:end])
        assert digests.finish("a", tmp_path / "data", seconds=5) == wanted
    assert running is not digests


def test_the_page_makes_a_dataset_of_uploads(ana, bob, tus, rows):
    headers = {"X-CSRFToken": ana.token("/datasets/add")}
    content = make_archive()
    body = {"uploads": [tus.send(content)], "name": "cells", "split_by": "folder"}
    dataset = rows.dataset(bob.user_id, "bob's")

    assert ana.post("/datasets/add-uploads", json=body).status_code == 400
    foreign = ana.post(
        f"/datasets/add-uploads?dataset_id={dataset}", json=body, headers=headers
    )
    answer = ana.post("/datasets/add-uploads", json=body, headers=headers)

    assert foreign.status_code == 403
    assert answer.status_code == 201
    assert spec_of(rows, answer)["split"] == {"by": "folder"}
    page = ana.get(answer.json["page"])
    assert page.status_code == 200
    assert "cells" in page.text
    assert hashlib.sha256(content).hexdigest() in page.text


def test_the_root_of_the_page_goes_with_tables_alone(ana, tus, rows, roots):
    headers = {"X-CSRFToken": ana.token("/datasets/add")}
    archive, table = tus.send(make_archive()), tus.send(TABLE, "labels.csv")

    def post(*uploads):
        body = {"uploads": uploads, "root": str(roots)}
        return ana.post("/datasets/add-uploads", json=body, headers=headers)

    refused, answer = post(archive), post(archive, table)

    assert refused.status_code == 400
    assert "Upload the table, too" in refused.text
    sources = spec_of(rows, answer)["sources"]
    assert [one.get("root") for one in sources] == [None, str(roots)]
