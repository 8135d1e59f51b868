"""Forecasts in pages and API: asked for, shown, findings listed and accepted."""

import pytest

from shared import dataset_store, job_store, user_store
from shared.errors import ConflictError
from tests.web.forecast_example import COUNTS, make_findings
from web.auth.datastore import make_account
from web.datasets import accepted_findings, findings
from web.datasets.forecast_view import find_state


@pytest.fixture
def owner(rows):
    return rows.user()


@pytest.fixture
def dataset(rows, owner):
    return rows.dataset(owner)


@pytest.fixture
def client(api, owner):
    return api(owner)


def get(client, path, **query):
    answer = client("GET", path, query_string=query)
    assert answer.status_code == 200, answer.text
    return answer.json


class TestApi:
    def test_missing_forecast_is_said_in_a_sentence(self, client, dataset):
        answer = client("GET", f"/datasets/{dataset}/forecast")

        assert answer.status_code == 404
        assert "Version 1 has not been forecast" in answer.json["detail"]

    def test_asking_queues_one_job_for_a_version(self, client, dataset):
        first = client("POST", f"/datasets/{dataset}/forecast")
        second = client("POST", f"/datasets/{dataset}/forecast", json={"again": True})

        assert (first.status_code, second.status_code) == (202, 200)
        assert (first.json["created"], second.json["created"]) == (True, False)
        assert first.json["job"]["id"] == second.json["job"]["id"]
        found = get(client, f"/datasets/{dataset}/forecast")
        assert (found["job"]["state"], found["forecast"]) == ("queued", None)
        assert found["job"]["kind"] == "forecast"

    def test_forecast_is_given_whole_and_made_again_on_demand(
        self, client, dataset, rows, owner
    ):
        job_id = rows.forecast(owner, dataset)
        found = get(client, f"/datasets/{dataset}/forecast", version=1)
        plain = client("POST", f"/datasets/{dataset}/forecast")
        again = client("POST", f"/datasets/{dataset}/forecast", json={"again": True})

        assert found["job"]["id"] == job_id
        assert found["forecast"]["difficulty"]["grade"] == "moderate"
        assert (plain.status_code, again.status_code) == (200, 202)
        assert get(client, f"/datasets/{dataset}/forecast")["forecast"] is not None

    @pytest.mark.parametrize(
        ("path", "body", "status", "words"),
        [
            ("/datasets/{}/forecast", {"version": 9}, 404, "no version 9"),
            ("/datasets/99/forecast", {}, 404, "no dataset 99"),
            ("/datasets/{}/forecast", {"base_models": ["VG"]}, 400, "base models"),
            ("/datasets/{}/forecast", {"twice": True}, 422, "twice"),
            ("/datasets/{}/forecast", [1], 422, "JSON object"),
        ],
    )
    def test_wish_that_cannot_be_is_refused(  # noqa: PLR0917 - a table of cases
        self, client, dataset, path, body, status, words
    ):
        answer = client("POST", path.format(dataset), json=body)

        assert answer.status_code == status
        assert words in answer.json["detail"]

    def test_more_base_models_than_are_compared_are_refused(self, client, dataset):
        path = f"/datasets/{dataset}/forecast"
        names = ["VGG16", "EfficientNetLite0", "MobileNet", "Xception"]

        three = client("POST", path, json={"base_models": names})
        two = client("POST", path, json={"base_models": names[:3]})

        assert three.status_code == 400
        assert "may name 2 beside EfficientNetLite0" in three.json["detail"]
        assert "Received: 3: MobileNet, VGG16, Xception" in three.json["detail"]
        assert two.status_code == 202

    def test_other_base_models_are_asking_again(self, client, dataset, rows, owner):
        path = f"/datasets/{dataset}/forecast"
        left_out = [{"name": "VGG19", "reason": "It has no weights."}]
        rows.forecast(owner, dataset, base_models_left_out=left_out)

        same = client("POST", path, json={"base_models": ["EfficientNetLite1"]})
        told = client("POST", path, json={"base_models": ["VGG19"]})
        other = client("POST", path, json={"base_models": ["VGG16"]})
        again = client("POST", path, json={"base_models": ["VGG16"]})
        third = client("POST", path, json={"base_models": ["MobileNet"]})
        any_will_do = client("POST", path, json={"again": True})

        answers = (same, told, other, again, third, any_will_do)
        assert [a.status_code for a in answers] == [200, 200, 202, 200, 409, 200]
        job = other.json["job"]["id"]
        assert again.json["job"]["id"] == any_will_do.json["job"]["id"] == job
        assert f"Job {job} forecasts this version already" in third.json["detail"]

    def test_dataset_that_is_still_read_cannot_be_forecast(self, client, rows, owner):
        dataset, _ = rows.reading(owner, "new")

        answer = client("POST", f"/datasets/{dataset}/forecast")

        assert answer.status_code == 409
        assert "no version yet" in answer.json["detail"]

    def test_forecast_can_be_cancelled_and_neither_paused_nor_finished(
        self, client, dataset
    ):
        job = client("POST", f"/datasets/{dataset}/forecast").json["job"]["id"]
        verbs = ("pause", "finish")
        refused = [client("POST", f"/jobs/{job}/{verb}") for verb in verbs]
        cancelled = client("POST", f"/jobs/{job}/cancel")

        assert [answer.status_code for answer in refused] == [409, 409]
        assert "can only be cancelled" in refused[0].json["detail"]
        assert cancelled.json["state"] == "cancelled"

    def test_queued_forecast_does_not_keep_its_dataset(self, client, dataset):
        job = client("POST", f"/datasets/{dataset}/forecast").json["job"]["id"]

        deleted = client("DELETE", f"/datasets/{dataset}")

        assert deleted.status_code == 200
        assert deleted.json["counts"]["forecast_jobs"] == 1
        assert client("GET", f"/jobs/{job}").status_code == 404


class TestFindings:
    @pytest.fixture(autouse=True)
    def job_id(self, rows, owner, dataset):
        return rows.forecast(owner, dataset)

    def test_findings_come_in_pages_and_by_kind(self, client, dataset):
        path = f"/datasets/{dataset}/findings"
        whole = get(client, path)
        page = get(client, path, page=2, page_size=5)
        suspects = get(client, path, kind="suspect_label")

        assert whole["total"] == sum(COUNTS.values())
        assert whole["counts"] == COUNTS
        assert [row["key"] for row in page["items"]] == [
            row["key"] for row in whole["items"][5:10]
        ]
        assert {row["kind"] for row in suspects["items"]} == {"suspect_label"}
        assert suspects["items"][0]["suggested_label"] == "defective"

    def test_pictures_have_addresses_that_answer(self, client, dataset):
        row = get(client, f"/datasets/{dataset}/findings", kind="near_duplicate")[
            "items"
        ][0]
        address = row["pictures"][0]["thumbnail"]
        answer = client("GET", address.removeprefix("/api/v1"))

        assert len(row["pictures"]) == row["pictures_total"] == 3
        assert (answer.status_code, answer.mimetype) == (200, "image/jpeg")
        other = address.replace(row["pictures"][0]["sha256"], "0" * 64)
        assert client("GET", other.removeprefix("/api/v1")).status_code == 404

    def test_picture_in_quarantine_has_the_small_copy_of_its_version(
        self, client, dataset, rows
    ):
        path = f"/datasets/{dataset}/findings"
        before = get(client, path, kind="label_conflict")["items"][0]["pictures"][0]
        name = f"{before['sha256']}.jpg"
        (forecast,) = rows.storage.forecasts(dataset).iterdir()
        copy = forecast / "thumbnails" / name
        copy.rename(rows.storage.resolve(f"datasets/{dataset}/1/thumbnails") / name)

        (row,) = get(client, path, kind="label_conflict")["items"]

        address = row["pictures"][0]["thumbnail"]
        assert address.endswith(f"/versions/1/thumbnails/{name}")
        answer = client("GET", address.removeprefix("/api/v1"))
        assert (answer.status_code, answer.mimetype) == (200, "image/jpeg")
        other = address.replace(before["sha256"], "0" * 64)
        assert client("GET", other.removeprefix("/api/v1")).status_code == 404

    def test_file_that_is_no_picture_is_named(self, client, dataset):
        (row,) = get(client, f"/datasets/{dataset}/findings", kind="unreadable")[
            "items"
        ]

        (picture,) = row["pictures"]
        assert (picture["sha256"], picture["thumbnail"]) == (None, None)
        assert picture["name"] == "unreadable.jpg"

    def test_accepted_findings_are_flagged_and_filtered(self, app, client, dataset):
        key = get(client, f"/datasets/{dataset}/findings")["items"][0]["key"]
        here = app.extensions["trainyard"]
        account = find_account(here, dataset)

        counts = [
            accepted_findings.accept(here, account, dataset, [key]) for _ in range(2)
        ]

        path = f"/datasets/{dataset}/findings"
        accepted = get(client, path, accepted="true")
        assert counts == [1, 0]
        assert [row["key"] for row in accepted["items"]] == [key]
        assert accepted["items"][0]["accepted"]
        assert get(client, path, accepted="false")["total"] == accepted_rest()
        assert "label_conflict" not in accepted["counts"]

    def test_decision_on_a_finding_that_is_not_there_is_refused(self, app, dataset):
        here = app.extensions["trainyard"]

        with pytest.raises(ConflictError, match=r"not among the newest .* 'zzz'"):
            accepted_findings.accept(
                here, find_account(here, dataset), dataset, ["zzz"]
            )

    def test_keys_are_resolved_to_all_their_pictures(self, app, dataset, rows, owner):
        rows.forecast(owner, dataset, [many_pictures()])
        here = app.extensions["trainyard"]
        with here.database.reading() as s:
            forecast = find_state(s, dataset).require()

        (found,) = findings.resolve(here.storage, forecast, ["k" * 32])
        page = findings.read_page(here.storage, forecast, set(), findings.Wanted())

        assert len(found.images) == 100
        assert len(page.page.items[0].pictures) == findings.MOST_PICTURES
        assert page.page.items[0].pictures_total == 100

    def test_long_tables_are_read_in_order_across_batches(
        self, app, dataset, rows, owner
    ):
        some = make_findings(counts={"blurred": 2 * findings.BATCH_ROWS + 10})
        rows.forecast(owner, dataset, [row | {"images": []} for row in some])
        here = app.extensions["trainyard"]
        with here.database.reading() as s:
            forecast = find_state(s, dataset).require()

        last = findings.Wanted(page=findings.BATCH_ROWS // 250 * 2 + 1, page_size=250)
        page = findings.read_page(here.storage, forecast, set(), last).page

        start = (page.page - 1) * 250
        assert [row.key for row in page.items] == [
            row["key"] for row in some[start : start + 250]
        ]

    def test_findings_whose_file_is_gone_are_said_to_be(self, app, client, dataset):
        storage = app.extensions["trainyard"].storage
        (folder,) = storage.forecasts(dataset).iterdir()
        (folder / "findings.parquet").unlink()

        answer = client("GET", f"/datasets/{dataset}/findings")

        assert answer.status_code == 404
        assert "Forecast it again" in answer.json["detail"]

    def test_only_the_owner_accepts(self, app, rows, dataset):
        here = app.extensions["trainyard"]
        other = find_account(here, dataset, rows.user("bob@example.org"))

        with pytest.raises(Exception, match="Only its owner"):
            accepted_findings.accept(here, other, dataset, [])


def find_account(here, dataset_id, user_id=None):
    with here.database.reading() as s:
        owner_id = user_id or dataset_store.get_dataset(s, dataset_id).owner_id
        return make_account(user_store.get_user(s, owner_id))


def accepted_rest():
    return sum(COUNTS.values()) - 1


def many_pictures():
    (row,) = make_findings(counts={"imbalance": 1})
    names = [f"{number}.jpg" for number in range(100)]
    return row | {"key": "k" * 32, "images": [n * 3 for n in names], "names": names}


class TestPromises:
    def test_promises_are_listed_with_how_well_they_were_kept(
        self, client, rows, owner, dataset
    ):
        rows.forecast(owner, dataset, worker={"id": rows.worker("claimer train")})
        body = {"datasets": [dataset], "specs": [{"preset": "fast"}]}
        made = client("POST", "/jobs", json=body, headers={"Idempotency-Key": "k"})
        client("POST", "/jobs", json=body, headers={"Idempotency-Key": "k"})
        job_id = made.json["jobs"][0]["id"]
        before = get(client, "/promises")
        rows.publish(job_id, accuracy=0.86)
        after = get(client, "/promises")

        assert (before["total"], before["accuracy"]) == (1, None)
        assert before["items"][0]["accuracy"] == 0.88
        assert after["items"][0]["delivered_accuracy"] == 0.86
        assert after["accuracy"]["covered"] == 1.0
        assert after["accuracy"]["median_error"] == pytest.approx(0.02)
        assert after["minutes"]["median_error"] == pytest.approx(40 / 60, abs=0.1)


class TestPages:
    def test_forecast_is_asked_for_and_followed_on_the_dataset_page(self, ana, rows):
        dataset = rows.dataset(ana.user_id)
        page = f"/datasets/{dataset}"
        assert "Nobody has forecast this version yet" in ana.get(page).text

        answer = ana.send(f"{page}/forecast", page, version="1")
        assert answer.status_code == 302

        shown = ana.get(page).text
        assert "Waiting for a worker" in shown
        assert f"{page}/forecast/live?version=1" in shown
        live = ana.get(f"{page}/forecast/live?version=1")
        assert "X-Poll" not in live.headers

    def test_sentence_is_shown_when_it_is_there(self, ana, rows):
        dataset = rows.dataset(ana.user_id)
        rows.forecast(ana.user_id, dataset)

        shown = ana.get(f"/datasets/{dataset}").text

        assert "a linear classifier on frozen features gets 87.5 %" in shown
        assert "18 findings" in shown
        assert "Forecast again" in shown
        live = ana.get(f"/datasets/{dataset}/forecast/live")
        assert live.headers["X-Poll"] == "stop"

    def test_failed_forecast_says_why_and_can_be_tried_again(self, ana, rows):
        dataset = rows.dataset(ana.user_id)
        ana.send(f"/datasets/{dataset}/forecast", f"/datasets/{dataset}", version="1")
        job_id = 2
        rows.fail(job_id, "forecast", "The <b>memory</b> was full.")

        shown = ana.get(f"/datasets/{dataset}").text
        assert "The &lt;b&gt;memory&lt;/b&gt; was full." in shown
        assert ">Retry<" in shown
        ana.send(f"/datasets/{dataset}/forecast", f"/datasets/{dataset}", version="1")
        assert "Waiting for a worker" in ana.get(f"/datasets/{dataset}").text

    def test_forecast_without_any_of_its_parts_is_no_error(self, ana, rows):
        dataset = rows.dataset(ana.user_id)
        rows.forecast(ana.user_id, dataset, difficulty=None, presets=None, findings=[])

        assert ana.get(f"/datasets/{dataset}").status_code == 200

    def test_jobs_page_lists_forecasts_by_themselves(self, ana, rows):
        dataset = rows.dataset(ana.user_id, "cells")
        job_id = rows.forecast(ana.user_id, dataset)

        training = ana.get("/jobs").text
        forecasts = ana.get("/jobs?kind=forecast").text

        assert f"job-link-{job_id}" not in training
        assert "/jobs?kind=forecast" in training
        assert f"job-link-{job_id}" in forecasts
        assert ana.get("/jobs/queue?kind=forecast").status_code == 200

    def test_job_page_shows_phases_and_the_way_to_the_dataset(self, ana, rows):
        dataset = rows.dataset(ana.user_id)
        ana.send(f"/datasets/{dataset}/forecast", f"/datasets/{dataset}", version="1")
        rows.claim("forecast", 2)

        running = ana.get("/jobs/2").text

        for words in ("Computing features", "Examining pictures", "Forecasting"):
            assert words in running
        assert "ask-cancel" in running
        assert "ask-pause" not in running
        assert "ask-finish" not in running
        assert f'href="/datasets/{dataset}"' in running

    def test_thumbnail_is_shown_to_who_is_signed_in(self, ana, rows, app):
        dataset = rows.dataset(ana.user_id)
        job_id = rows.forecast(ana.user_id, dataset)
        storage = app.extensions["trainyard"].storage
        (folder,) = storage.forecasts(dataset).iterdir()
        name = next((folder / "thumbnails").iterdir()).name
        page = f"/datasets/{dataset}/forecasts/{job_id}/thumbnails"

        assert ana.get(f"{page}/{name}").status_code == 200
        assert ana.get(f"{page}/..%2fforecast.json").status_code == 404
        assert app.test_client().get(f"{page}/{name}").status_code == 302


def test_cancelled_forecast_is_named_when_there_is_none(rows, owner, client, dataset):
    job = client("POST", f"/datasets/{dataset}/forecast").json["job"]["id"]
    with rows.database.transaction() as s:
        job_store.cancel(s, job, actor="user:1")

    answer = client("GET", f"/datasets/{dataset}/findings")

    assert answer.status_code == 404
    assert f"cancelled (job {job})" in answer.json["detail"]
