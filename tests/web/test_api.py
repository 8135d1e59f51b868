"""The API's shape: tokens, problems, its description, its rows."""

import pytest

PATHS = ("/datasets", "/jobs", "/models", "/workers", "/catalog")


@pytest.mark.parametrize("path", PATHS)
def test_a_request_without_token_is_a_problem(app, path):
    answer = app.test_client().get(f"/api/v1{path}")

    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_cookie_opens_no_api(ana):
    assert ana.get("/api/v1/jobs").status_code == 401


@pytest.mark.parametrize("path", PATHS)
def test_a_token_opens_the_api(api, rows, path):
    assert api(rows.user())("GET", path).status_code == 200


def test_the_description_names_every_path(app):
    document = app.test_client().get("/api/v1/openapi.json").json

    assert document["openapi"].startswith("3.")
    for path in (
        "/api/v1/datasets",
        "/api/v1/datasets/{dataset_id}",
        "/api/v1/jobs",
        "/api/v1/jobs/{job_id}",
        "/api/v1/jobs/{job_id}/metrics",
        "/api/v1/jobs/{job_id}/cancel",
        "/api/v1/jobs/{job_id}/finish",
        "/api/v1/models/{name}/versions/{version}/archive",
        "/api/v1/groups/{group_key}/archive",
        "/api/v1/workers",
    ):
        assert path in document["paths"]
    assert "Problem" in document["components"]["schemas"]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/jobs/999", 404),
        ("GET", "/jobs/x", 404),
        ("PATCH", "/jobs", 405),
        ("GET", "/jobs?page=0", 422),
        ("GET", "/jobs?colour=red", 422),
        ("POST", "/jobs", 422),
        ("POST", "/datasets", 415),
        ("GET", "/models/none/versions/1", 404),
        ("GET", f"/jobs/{2**63}", 404),
        ("GET", f"/jobs/{2**63 - 1}", 404),
        ("GET", f"/jobs?dataset_id={2**63}", 422),
        ("GET", "/datasets?search=%00", 422),
        ("GET", "/models/%00", 422),
    ],
)
def test_every_refusal_is_a_problem_document(api, rows, method, path, status):
    answer = api(rows.user())(method, path)

    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["detail"]
    assert answer.json["instance"].startswith("/api/v1/")


def test_a_fault_of_ours_gives_a_reference_and_no_details(api, rows, app):
    asked = api(rows.user())
    app.extensions["trainyard"].database.dispose()
    app.view_functions["api.list_workers"] = lambda: 1 / 0

    answer = asked("GET", "/workers")

    assert answer.status_code == 500
    assert "reference" in answer.json["detail"]
    assert "ZeroDivision" not in answer.text


def test_a_running_job_tells_how_fast_it_goes_on(api, rows):
    owner = rows.user()
    job_id = rows.job(owner, rows.dataset(owner))
    waiting = api(owner)("GET", f"/jobs/{job_id}").json
    rows.run(job_id)

    running = api(owner)("GET", f"/jobs/{job_id}").json

    assert waiting["rate"] is None
    assert running["rate"] == pytest.approx((40 - 6) / 83)
    assert running["progress_unit"] == "epochs"


def test_a_finished_job_tells_what_it_published(api, rows):
    owner = rows.user()
    job_id = rows.job(owner, rows.dataset(owner))
    rows.publish(job_id)

    job = api(owner)("GET", f"/jobs/{job_id}").json

    assert job["published"] == "cells:1"
    assert job["result"]["accuracy"] > 0.9
    assert job["attempt_list"][0]["outcome"] == "succeeded"
    assert job["checkpoints"]
    assert job["notes"][0]["message"].startswith("Features")


def test_metrics_are_one_row_an_epoch(api, rows):
    owner = rows.user()
    job_id = rows.job(owner, rows.dataset(owner))
    rows.run(job_id, epochs=3)

    epochs = api(owner)("GET", f"/jobs/{job_id}/metrics").json["epochs"]

    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert epochs[0]["val_accuracy"] == pytest.approx(0.55)
    assert (epochs[0]["waited_seconds"], epochs[0]["spent_seconds"]) == (0.2, 14.2)


def test_a_dataset_comes_with_its_report(api, rows):
    owner = rows.user()
    dataset = rows.dataset(owner, skipped=7)

    found = api(owner)("GET", f"/datasets/{dataset}").json

    assert found["classes"] == ["defective", "intact"]
    assert found["report"]["skipped_total"] == 7


def test_lists_come_in_pages(api, rows):
    owner = rows.user()
    dataset = rows.dataset(owner)
    for number in range(5):
        rows.job(owner, dataset, f"job {number}")

    page = api(owner)("GET", "/jobs?kind=train&page=2&page_size=2").json

    assert (page["total"], page["page"]) == (5, 2)
    assert [job["title"] for job in page["items"]] == ["job 2", "job 1"]


def test_events_are_the_end_of_the_log(api, rows):
    owner = rows.user()
    job_id = rows.job(owner, rows.dataset(owner))
    claim = rows.run(job_id)
    folder = rows.storage.attempt(job_id, claim.fence, claim.attempt_uuid)
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text(
        '{"event":"phase","phase":"frozen","at":1}\n{"torn'
    )

    events = api(owner)("GET", f"/jobs/{job_id}/events").json["events"]

    assert events == [{"event": "phase", "phase": "frozen", "at": 1}]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("[1]", "JSON object"),
        ("{torn", "JSON object"),
        ('{"from_scratch": 3}', "from_scratch"),
        ('{"when": "now"}', "when"),
    ],
)
def test_a_wrong_wish_for_a_retry_is_refused(api, rows, body, word):
    owner = rows.user()
    job_id = rows.job(owner, rows.dataset(owner))
    rows.fail(job_id)

    answer = api(owner)(
        "POST", f"/jobs/{job_id}/retry", data=body, content_type="application/json"
    )

    assert answer.status_code == 422
    assert word in answer.json["detail"]
    assert "RetryRequest" not in answer.json["detail"]


def test_too_long_a_body_is_a_problem_that_names_the_limit(api, rows):
    answer = api(rows.user())("POST", "/jobs", json={"datasets": ["x" * 3_000_000]})

    assert answer.status_code == 413
    assert answer.content_type == "application/problem+json"
    assert "2.0 MiB" in answer.json["detail"]
