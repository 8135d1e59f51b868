"""Versions of a dataset: adding, deciding, and what each changed."""

import hashlib

import pytest
from PIL import Image

from shared import dataset_store, job_read_store
from tests.web.rows import make_archive
from web.datasets.versions import KINDS

RAW = {"Content-Type": "application/octet-stream"}
ONE, TWO = "a" * 64, "b" * 64


@pytest.fixture
def dataset(ana, rows):
    return rows.dataset(ana.user_id, quarantined=30)


@pytest.fixture
def ask(api, ana):
    return api(ana.user_id)


def spec_of(rows, job_id):
    with rows.database.reading() as session:
        return job_read_store.get_job(session, job_id).spec


def newest_ingest(rows, dataset):
    with rows.database.reading() as session:
        found = job_read_store.list_jobs(session, kind="ingest", dataset_id=dataset)
        return found.items[0]


def upload(ask, **query):
    query = {"filename": "more.zip", **query}
    return ask(
        "POST", "/datasets", query_string=query, data=make_archive(), headers=RAW
    )


def relabel(*images, label="intact"):
    return {"action": "relabel", "images": list(images), "label": label}


@pytest.mark.parametrize("mode", [None, "add", "replace"])
def test_an_upload_to_a_dataset_adds_unless_told_to_replace(ask, rows, dataset, mode):
    answer = upload(ask, dataset_id=dataset, **({"mode": mode} if mode else {}))

    assert answer.status_code == 201
    assert answer.json["id"] == dataset
    spec = spec_of(rows, answer.json["job_id"])
    assert spec["mode"] == (mode or "add")
    assert spec["sources"][0] == {
        "type": "version", "path": f"datasets/{dataset}/1", "name": "version 1",
    }  # fmt: skip
    assert spec["sources"][1]["type"] == "archive"


def test_the_first_upload_names_no_mode(ask, rows):
    spec = spec_of(rows, upload(ask).json["job_id"])

    assert "mode" not in spec
    assert len(spec["sources"]) == 1


def test_groups_are_asked_for_with_the_upload(ask, rows, dataset):
    answer = upload(ask, dataset_id=dataset, split_by="column", split_column="patient")

    spec = spec_of(rows, answer.json["job_id"])
    assert spec["split"] == {"by": "column", "column": "patient"}


@pytest.mark.parametrize(
    "query",
    [
        {"mode": "add"},
        {"dataset_id": 1, "mode": "mix"},
        {"split_by": "column"},
        {"split_column": "patient"},
        {"split_by": "moon"},
    ],
)
def test_wishes_that_do_not_go_together_are_refused(ask, dataset, query):
    assert upload(ask, **query).status_code == 422


def test_a_place_on_the_server_is_added_too(ask, rows, dataset, roots):
    (roots / "more").mkdir()

    answer = ask(
        "POST", "/datasets", json={"path": str(roots / "more"), "dataset_id": dataset}
    )

    assert answer.json["id"] == dataset
    assert spec_of(rows, answer.json["job_id"])["mode"] == "add"


def test_nobody_adds_to_what_is_not_theirs(api, bob, dataset):
    assert upload(api(bob.user_id), dataset_id=dataset).status_code == 403


class TestDecisions:
    """Decisions make the next version."""

    def send(self, ask, dataset, **body):
        body = {"version": 1, **body}
        return ask("POST", f"/datasets/{dataset}/decisions", json=body)

    def test_they_become_an_ingest_job(self, ask, rows, dataset):
        decisions = [
            relabel(ONE),
            {"action": "quarantine", "images": [TWO], "reason": "blurred"},
        ]

        answer = self.send(
            ask, dataset, decisions=decisions, split={"again": True, "seed": 3}
        )

        assert answer.status_code == 202
        spec = spec_of(rows, answer.json["job_id"])
        assert spec["edits"] == [
            {"action": "relabel", "images": [ONE], "label": "intact", "reason": None},
            {"action": "quarantine", "images": [TWO], "label": None,
             "reason": "blurred"},
        ]  # fmt: skip
        assert spec["split"] == {"again": True, "seed": 3}
        assert (spec["mode"], spec["sources"][0]["type"]) == ("add", "version")

    def test_repeated_they_are_carried_out_once(self, ask, dataset):
        headers = {"Idempotency-Key": "k"}
        answers = [
            ask(
                "POST", f"/datasets/{dataset}/decisions", headers=headers,
                json={"version": 1, "decisions": [relabel(ONE, label=label)]},
            )
            for label in ("a", "a", "b")
        ]  # fmt: skip

        assert [answer.status_code for answer in answers] == [202, 200, 409]
        assert answers[0].json["job_id"] == answers[1].json["job_id"]

    def test_an_old_version_is_not_decided_about(self, ask, ana, rows, dataset):
        rows.version(ana.user_id, dataset)

        answer = self.send(ask, dataset, decisions=[relabel(ONE)])

        assert answer.status_code == 409
        assert "has a version 2 by now" in answer.json["detail"]

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({}, 400),
            ({"decisions": [{"action": "burn", "images": [ONE]}]}, 422),
            ({"decisions": [{"action": "relabel", "images": [ONE]}]}, 422),
            ({"decisions": [{"action": "exclude", "images": ["../x"]}]}, 422),
            ({"decisions": [{"action": "exclude", "images": []}]}, 422),
            ({"split": {"train": 0.5}}, 422),
            ({"version": 9, "split": {"again": True}}, 404),
        ],
    )
    def test_what_cannot_be_is_refused(self, ask, dataset, body, status):
        assert self.send(ask, dataset, **body).status_code == status

    def test_nobody_decides_about_what_is_not_theirs(self, api, bob, dataset):
        answer = self.send(api(bob.user_id), dataset, decisions=[relabel(ONE)])

        assert answer.status_code == 403


def test_a_version_tells_its_parent_and_its_changes(ask, ana, rows, dataset):
    rows.version(ana.user_id, dataset)

    first = ask("GET", f"/datasets/{dataset}/versions/1").json
    second = ask("GET", f"/datasets/{dataset}/versions/2").json
    diff = ask("GET", f"/datasets/{dataset}/versions/2/diff").json

    assert (first["parent"], first["changes"], first["quarantine"]) == (None, None, 30)
    assert second["parent"] == 1
    assert second["changes"]["sentences"] == ["60 pictures were relabelled."]
    assert len(diff["relabelled"]) == 60
    for path in ("versions/1/diff", "versions/3", "versions/3/diff"):
        assert ask("GET", f"/datasets/{dataset}/{path}").status_code == 404


class TestDiffsOutOfReach:
    """Only of a version without parent it is said that it has none."""

    @pytest.fixture
    def folder(self, ana, rows, dataset):
        rows.version(ana.user_id, dataset)
        return rows.storage.resolve(f"datasets/{dataset}/2")

    @pytest.mark.parametrize("content", [b'{"parent": {', b"\xff", b"null"])
    def test_a_damaged_one_is_named(self, ask, ana, dataset, folder, content):
        (folder / "diff.json").write_bytes(content)

        answer = ask("GET", f"/datasets/{dataset}/versions/2/diff")
        page = ana.get(f"/datasets/{dataset}/versions/2/changes")

        assert (answer.status_code, page.status_code) == (404, 404)
        for text in (answer.json["detail"], page.text):
            assert (
                f"datasets/{dataset}/2/diff.json on shared storage is damaged" in text
            )

    def test_a_lost_one_is_named(self, ask, dataset, folder):
        (folder / "diff.json").unlink()

        answer = ask("GET", f"/datasets/{dataset}/versions/2/diff")

        assert answer.status_code == 404
        assert "/2/diff.json on shared storage is missing" in answer.json["detail"]

    def test_an_outage_is_told_as_one(self, ask, ana, rows, folder):
        root = rows.storage.root
        address = str(folder.relative_to(root)).replace("/2", "/versions/2")
        root.rename(root.with_name("away"))

        second = ask("GET", f"/{address}/diff")
        page = ana.get(f"/{address}/changes")
        first = ask("GET", f"/{address[:-1]}1/diff")

        assert (second.status_code, page.status_code) == (503, 503)
        assert "shared storage is away" in second.json["detail"]
        assert "made from no other version" in first.json["detail"]

    def test_a_read_that_fails_is_an_outage(self, ask, dataset, folder):
        (folder / "diff.json").unlink()
        (folder / "diff.json").mkdir()  # cannot be read, and is not missing

        answer = ask("GET", f"/datasets/{dataset}/versions/2/diff")

        assert answer.status_code == 503


class TestPages:
    """What the dataset's pages show of all that."""

    def test_versions_say_what_they_changed(self, ana, rows, dataset):
        rows.version(ana.user_id, dataset)

        page = ana.get(f"/datasets/{dataset}").text
        changes = ana.get(f"/datasets/{dataset}/versions/2/changes").text

        assert "60 pictures were relabelled." in page
        assert f"/datasets/{dataset}/versions/2/changes" in page
        assert "Version 2 against version 1" in changes
        assert "intact → defective" in changes
        assert "50 of 60 changes" in changes
        missing = ana.get(f"/datasets/{dataset}/versions/1/changes")
        assert missing.status_code == 404

    def test_what_the_list_of_changes_lacks_is_counted(self, ana, rows, dataset):
        counts = dict.fromkeys(KINDS, 0) | {"relabelled": 12_345, "moved": 60}
        rows.version(ana.user_id, dataset, counts=counts, moved=[])
        changes = f"/datasets/{dataset}/versions/2/changes"

        whole = ana.get(changes).text
        moved = ana.get(f"{changes}?kind=moved").text
        (rows.storage.resolve(f"datasets/{dataset}/2") / "diff.parquet").touch()
        told = ana.get(changes).text

        assert "Of those relabelled the first 60 are listed of 12,345." in whole
        assert "Of those moved the first 0 are listed of 60." in whole
        assert "Of those relabelled" not in moved
        assert "diff.parquet" not in whole
        assert f"datasets/{dataset}/2/diff.parquet" in told

    def test_quarantine_is_shown_with_its_labels(self, ana, bob, dataset):
        page = ana.get(f"/datasets/{dataset}").text

        assert "there under several labels: defective, intact." in page
        assert "24 of 30 pictures" in page
        assert "Make a new version" in page
        assert "Make a new version" not in bob.get(f"/datasets/{dataset}").text

    def test_what_is_chosen_there_becomes_a_version(self, ana, rows, dataset):
        both = hashlib.sha256(b"both 0").hexdigest()
        aside = hashlib.sha256(b"both 1").hexdigest()
        values = {
            f"decision:{both}": "label:defective", f"decision:{aside}": "restore",
            f"decision:{ONE}": "", "decision:nonsense": "exclude",
        }  # fmt: skip

        answer = ana.send(f"/datasets/{dataset}/versions/1/decide", **values)

        assert answer.status_code == 302
        edits = newest_ingest(rows, dataset).spec["edits"]
        assert [(e["action"], e["images"], e["label"]) for e in edits] == [
            ("relabel", [both], "defective"), ("restore", [aside], None),
        ]  # fmt: skip

    def test_nothing_chosen_is_told(self, ana, dataset):
        answer = ana.send(f"/datasets/{dataset}/versions/1/decide")

        assert answer.status_code == 400
        assert "Nothing is decided" in answer.text

    def test_what_was_chosen_outlives_a_conflict(self, ana, rows, dataset):
        aside = hashlib.sha256(b"both 25").hexdigest()
        rows.version(ana.user_id, dataset)

        answer = ana.send(
            f"/datasets/{dataset}/versions/1/decide?quarantine=2",
            **{f"decision:{aside}": "exclude"},
        )

        assert answer.status_code == 409
        assert "has a version 2 by now" in answer.text
        assert '<option value="exclude" selected>' in answer.text
        assert f"/datasets/{dataset}?version=1&amp;quarantine=1" in answer.text

    def test_picture_in_quarantine_without_a_small_copy_says_so(
        self, ana, rows, dataset
    ):
        digests = [hashlib.sha256(f"both {n}".encode()).hexdigest() for n in (0, 1)]
        folder = rows.storage.resolve(f"datasets/{dataset}/1/thumbnails")
        Image.new("RGB", (8, 8)).save(folder / f"{digests[0]}.jpg")

        page = ana.get(f"/datasets/{dataset}").text

        assert f"{digests[0]}.jpg" in page
        assert f"{digests[1]}.jpg" not in page
        assert 'aria-label="both/1.jpg: no small copy was made"' in page

    def test_the_form_offers_to_add_or_to_replace(self, ana, rows, dataset, roots):
        page = ana.get(f"/datasets/add?dataset={dataset}").text
        (roots / "more").mkdir()

        values = {"path": str(roots / "more"), "mode": "replace"}
        values |= {"split_by": "duplicates", "csrf_token": ana.token("/account")}
        ana.post(f"/datasets/add-path?dataset_id={dataset}", data=values)

        assert "replace them all" in page
        spec = newest_ingest(rows, dataset).spec
        assert (spec["mode"], spec["split"]) == ("replace", {"by": "duplicates"})


def test_deleting_a_dataset_takes_its_versions(ana, rows, dataset):
    rows.version(ana.user_id, dataset)

    ana.send(f"/datasets/{dataset}/delete")

    assert not rows.storage.dataset(dataset).exists()
    with rows.database.reading() as session:
        assert dataset_store.list_versions(session, dataset) == []
