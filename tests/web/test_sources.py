"""One dataset from several places: paths of the server and addresses."""

import pytest

from shared import job_read_store
from shared.settings import Settings
from web.datasets.view import find_ingest

ADDRESS = "https://data.example.org/sets/pets.zip"


@pytest.fixture
def settings(settings):
    """Settings that allow addresses."""
    return Settings(
        **settings.model_dump()
        | {
            "source_addresses": ["https://data.example.org/sets/", "s3://pictures/"],
            "source_networks": ["10.0.0.0/8"],
            "source_s3_endpoint": "http://minio:9000/",
        }
    )


@pytest.fixture
def ana_api(api, ana):
    return api(ana.user_id)


def get_sources(rows, answer):
    with rows.database.reading() as session:
        spec = job_read_store.get_job(session, answer.json["job_id"]).spec
    return spec["sources"]


def test_several_sources_become_one_dataset(ana_api, rows, roots):
    (roots / "cells").mkdir()
    (roots / "list.parquet").touch()
    body = {
        "sources": [
            {"path": str(roots / "cells")},
            {"path": str(roots / "list.parquet"), "root": "s3://pictures/cells"},
            {"address": ADDRESS, "labels": "labels.csv"},
            {"address": "s3://pictures/more/"},
        ],
        "name": "all",
    }

    answer = ana_api("POST", "/datasets", json=body)

    assert answer.status_code == 201, answer.json
    assert answer.json["name"] == "all"
    assert get_sources(rows, answer) == [
        {"type": "folder", "path": str(roots / "cells"), "name": "cells"},
        {
            "type": "csv",
            "path": str(roots / "list.parquet"),
            "name": "list.parquet",
            "root": "s3://pictures/cells",
        },
        {
            "type": "address",
            "address": ADDRESS,
            "name": "pets.zip",
            "labels": "labels.csv",
        },
        {"type": "address", "address": "s3://pictures/more/", "name": "more"},
    ]


def test_one_address_may_stand_alone_and_names_the_dataset(ana_api, rows):
    answer = ana_api("POST", "/datasets", json={"address": ADDRESS})

    assert answer.json["name"] == "pets"
    assert [source["address"] for source in get_sources(rows, answer)] == [ADDRESS]


def test_several_sources_together_replace_what_a_dataset_holds(ana, ana_api, rows):
    dataset = rows.dataset(ana.user_id)
    body = {
        "sources": [{"address": ADDRESS}, {"address": "s3://pictures/list.parquet"}],
        "dataset_id": dataset,
        "mode": "replace",
        "split_by": "column",
        "split_column": "patient",
    }

    answer = ana_api("POST", "/datasets", json=body)

    assert (answer.status_code, answer.json["id"]) == (201, dataset)
    with rows.database.reading() as session:
        spec = job_read_store.get_job(session, answer.json["job_id"]).spec
    assert [one["type"] for one in spec["sources"]] == ["version", "address", "address"]
    assert spec["mode"] == "replace"
    assert spec["split"] == {"by": "column", "column": "patient"}


def test_a_dataset_of_others_gets_no_sources(ana_api, bob, rows):
    body = {"address": ADDRESS, "dataset_id": rows.dataset(bob.user_id)}

    assert ana_api("POST", "/datasets", json=body).status_code == 403


def test_the_same_key_is_answered_once_and_serves_no_other_request(ana_api):
    def send(body):
        return ana_api(
            "POST", "/datasets", json=body, headers={"Idempotency-Key": "once"}
        )

    first = send({"sources": [{"address": ADDRESS}]})

    assert send({"sources": [{"address": ADDRESS}]}).json["id"] == first.json["id"]
    assert send({"sources": [{"address": "s3://pictures/x/"}]}).status_code == 409


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"sources": []}, "1 to 200 sources"),
        ({"sources": [{"address": ADDRESS}] * 201}, "1 to 200 sources"),
        ({}, "either a `path`, an `address` or an `upload`"),
        ({"sources": [{}]}, "either a `path`, an `address` or an `upload`"),
        ({"sources": [{"path": "/x", "address": ADDRESS}]}, "either a `path`, an"),
        ({"sources": [{"address": ADDRESS}], "address": ADDRESS}, "stands alone"),
        ({"address": "https://evil.com/a.zip"}, "TRAINYARD_SOURCE_ADDRESSES"),
        ({"address": f"{ADDRESS}?sig=hidden"}, "shown to others"),
        ({"address": "https://data.example.org/sets/more/"}, "what lies in a folder"),
        ({"address": "https://data.example.org/sets/../a.zip"}, "leads out"),
        ({"address": ADDRESS, "root": "https://evil.com/"}, "not among the addresses"),
        ({"address": ADDRESS, "root": "/etc"}, "under the folders this server offers"),
        ({"address": ADDRESS, "labels": "/etc/passwd"}, "under the folders this"),
        ({"path": "/etc", "root": "/etc"}, "under the folders this server offers"),
    ],
)
def test_what_may_not_be_read_is_refused_at_once(ana_api, body, words):
    answer = ana_api("POST", "/datasets", json=body)

    assert answer.status_code == 400
    assert words in answer.text
    assert "hidden" not in answer.text


def post_lines(ana, lines, key, dataset=None, **more):
    token = ana.token("/account")
    data = {"csrf_token": token, "path": lines, "key": key, **more}
    to = f"?dataset_id={dataset}" if dataset else ""
    return ana.post(f"/datasets/add-path{to}", data=data)


def test_the_form_adds_to_a_dataset_that_is_there(ana, rows):
    dataset = rows.dataset(ana.user_id)
    assert "These pictures" in ana.get(f"/datasets/add?dataset={dataset}").text

    answer = post_lines(
        ana, f"{ADDRESS}\ns3://pictures/more/", "v", dataset, split_by="folder"
    )

    assert answer.location.endswith(f"/datasets/{dataset}")
    with rows.database.reading() as session:
        ingest = find_ingest(session, dataset)
        spec = job_read_store.get_job(session, ingest.id).spec
    assert [one["type"] for one in spec["sources"]] == ["version", "address", "address"]
    assert (spec["mode"], spec["split"]) == ("add", {"by": "folder"})


def test_the_form_takes_a_line_for_each_source(ana, rows, roots):
    (roots / "cells").mkdir()
    page = ana.get("/datasets/add").text
    assert "data.example.org/sets/" in page

    answer = post_lines(ana, f"\n{roots / 'cells'}\r\n  {ADDRESS} \n", "form")

    assert answer.status_code == 302
    with rows.database.reading() as session:
        ingest = find_ingest(session, int(answer.location.rpartition("/")[2]))
        job = job_read_store.get_job(session, ingest.id)
    assert [source["type"] for source in job.spec["sources"]] == ["folder", "address"]


def test_the_form_says_what_is_wrong_and_keeps_the_lines(ana):
    answer = post_lines(ana, "https://evil.com/a.zip", "other")

    assert answer.status_code == 400
    assert "TRAINYARD_SOURCE_ADDRESSES" in answer.text
    assert ">https://evil.com/a.zip</textarea>" in answer.text


def read_sources(rows, answer):
    assert answer.status_code == 302, answer.text
    with rows.database.reading() as session:
        ingest = find_ingest(session, int(answer.location.rpartition("/")[2]))
        return job_read_store.get_job(session, ingest.id).spec["sources"]


def test_one_table_of_the_form_labels_what_lies_in_several_folders(ana, rows, roots):
    for name in ("one", "two"):
        (roots / name).mkdir()
    table = roots / "labels.csv"
    table.touch()
    lines = f"{roots / 'one'}\n{roots / 'two'}"

    several = read_sources(rows, post_lines(ana, lines, "2", labels=str(table)))
    one = post_lines(ana, str(roots / "one"), "1", labels=str(table))
    alone = read_sources(rows, one)

    assert [(one["type"], one.get("labels")) for one in several] == [
        ("folder", None), ("folder", None), ("csv", None),
    ]  # fmt: skip
    assert [one["labels"] for one in alone] == [str(table)]


def test_the_root_of_the_form_goes_with_the_table_alone(ana, rows, roots):
    (roots / "cells").mkdir()
    (roots / "list.csv").touch()
    lines = f"{roots / 'cells'}\n{roots / 'list.csv'}"
    root = "s3://pictures/cells"

    sources = read_sources(rows, post_lines(ana, lines, "with", root=root))
    refused = post_lines(ana, f"{roots / 'cells'}\n{ADDRESS}", "no", root=root)

    assert [one.get("root") for one in sources] == [None, root]
    assert refused.status_code == 400
    assert "Name the table, too" in refused.text
