"""Submitting: one request, one set of jobs, however often it is sent."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.event import listen

from shared import job_read_store


@pytest.fixture
def ana_api(api, ana):
    return api(ana.user_id)


def submit(api, key=None, **body):
    return api(
        "POST", "/jobs", json=body, headers={"Idempotency-Key": key} if key else None
    )


def count_jobs(rows):
    with rows.database.reading() as session:
        return job_read_store.list_jobs(session, kind="train").total


def form_values(dataset_ids, **more):
    return {
        "dataset": dataset_ids,
        "preset": ["fast"],
        "base_model": ["EfficientNetLite0"],
        "key": "form-key",
        **more,
    }


def test_every_spec_is_used_on_every_dataset(ana_api, ana, rows):
    datasets = [rows.dataset(ana.user_id, name) for name in ("a", "b")]
    specs = [{"preset": "fast"}, {"preset": "best", "overrides": {"seed": 3}}]

    answer = submit(ana_api, datasets=[datasets[0], "b"], specs=specs)

    assert answer.status_code == 201
    titles = [job["title"] for job in answer.json["jobs"]]
    assert titles == [
        "a · EfficientNetLite0 · fast",
        "a · EfficientNetLite0 · best",
        "b · EfficientNetLite0 · fast",
        "b · EfficientNetLite0 · best",
    ]
    assert {job["model_name"] for job in answer.json["jobs"]} == {"a", "b"}


def test_the_same_key_makes_no_second_job(ana_api, ana, rows):
    dataset = rows.dataset(ana.user_id)

    first = submit(ana_api, "k", datasets=[dataset])
    second = submit(ana_api, "k", datasets=[dataset])

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json["jobs"] == second.json["jobs"]
    assert count_jobs(rows) == 1


def test_the_same_key_for_something_else_is_a_conflict(ana_api, ana, rows):
    dataset = rows.dataset(ana.user_id)
    submit(ana_api, "k", datasets=[dataset])

    answer = submit(ana_api, "k", datasets=[dataset], spec={"preset": "best"})

    assert answer.status_code == 409


def test_a_thousand_jobs_are_made_by_one_request_in_few_statements(ana_api, ana, rows):
    dataset = rows.dataset(ana.user_id)
    specs = [{"overrides": {"seed": seed}} for seed in range(1000)]
    statements = []
    listen(
        rows.database.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: statements.append(statement),
    )

    answer = submit(ana_api, "k", datasets=[dataset], specs=specs)

    assert answer.status_code == 201
    seeds = [job["title"] for job in answer.json["jobs"]]
    assert (len(seeds), count_jobs(rows)) == (1000, 1000)
    assert len(statements) < 40
    with rows.database.reading() as session:
        group = job_read_store.list_group(session, answer.json["group_key"])
        assert [job.spec["training"]["seed"] for job in group] == [*range(1000)]
        assert [job.fair_rank for job in group] == [*range(1000)]
    again = submit(ana_api, "k", datasets=[dataset], specs=specs)
    assert (again.status_code, count_jobs(rows)) == (200, 1000)
    assert again.json["jobs"] == answer.json["jobs"]


def test_a_job_may_wait_for_its_time_and_for_a_gpu(ana_api, ana, rows):
    at = datetime(2100, 1, 1, 12, tzinfo=UTC)
    dataset = rows.dataset(ana.user_id)
    rows.worker("large gpu", gpu_mem_mb=8000)
    wish = {"datasets": [dataset], "not_before": at.isoformat(), "gpu_mem_mb": 8000}

    answer = submit(ana_api, "k", **wish)

    assert answer.status_code == 201
    number = answer.json["jobs"][0]["id"]
    with rows.database.reading() as session:
        job = job_read_store.get_job(session, number)
    assert (job.not_before, job.gpu_mem_mb) == (at.timestamp() * 1000, 8000)
    assert "Waiting for its time" in ana.get(f"/jobs/{number}").text
    (waiting,) = ana_api("GET", "/queue").json["items"]
    assert waiting["not_before"] == job.not_before
    later = wish | {"not_before": "2100-01-02T12:00:00Z"}
    assert submit(ana_api, "k", **later).status_code == 409
    over = submit(ana_api, **wish | {"gpu_mem_mb": 8001})
    assert over.status_code == 400
    assert "the largest has 8000" in over.json["detail"]


@pytest.mark.parametrize("time", ["tomorrow", "2100-01-01T12:00:00"])
def test_a_time_without_a_zone_is_none(ana_api, ana, rows, time):
    dataset = rows.dataset(ana.user_id)

    answer = submit(ana_api, datasets=[dataset], not_before=time)

    assert answer.status_code == 422
    assert "not_before" in answer.text


def test_a_sweep_makes_jobs_that_are_called_by_what_differs(ana_api, ana, rows):
    sweep = {
        "grid": {"head.dropout": [0.1, 0.3]},
        "random": {"frozen_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        "trials": 2,
    }
    spec = {"preset": "fast", "overrides": {"head": {"units": [32]}}, "sweep": sweep}

    answer = submit(ana_api, datasets=[rows.dataset(ana.user_id)], spec=spec)

    assert answer.status_code == 201
    titles = [job["title"] for job in answer.json["jobs"]]
    assert len(set(titles)) == 4
    assert all("head.dropout=0." in title for title in titles)
    assert all("frozen_learning_rate=0.0" in title for title in titles)
    with rows.database.reading() as session:
        jobs = job_read_store.list_group(session, answer.json["group_key"])
    heads = [job.spec["training"]["head"] for job in jobs]
    assert [head["dropout"] for head in heads] == [0.1, 0.1, 0.3, 0.3]
    assert {tuple(head["units"]) for head in heads} == {(32,)}


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"grid": {"no_such": [1]}}, "no_such"),
        ({"grid": {"seed": []}}, "names no values"),
        ({"random": {"seed": {"low": 1}}}, "high"),
        ({"random": {"seed": {"low": 1, "high": 10**400}}}, "high"),
        ({"grid": {"seed": [*range(1500)], "fit": ["a"]}, "trials": 2000}, "fit"),
    ],
)
def test_a_sweep_that_means_nothing_makes_no_job(ana_api, ana, rows, sweep, words):
    dataset = rows.dataset(ana.user_id)

    answer = submit(ana_api, datasets=[dataset], spec={"sweep": sweep})

    assert answer.status_code in {400, 422}
    assert words in answer.text
    assert count_jobs(rows) == 0


@pytest.mark.parametrize("wanted", [1, 3])
def test_the_same_key_for_fewer_or_more_jobs_is_a_conflict(ana_api, ana, rows, wanted):
    datasets = [rows.dataset(ana.user_id, name) for name in "abc"]
    submit(ana_api, "k", datasets=datasets[:2])

    answer = submit(ana_api, "k", datasets=datasets[:wanted])

    assert answer.status_code == 409
    assert count_jobs(rows) == 2


def test_two_users_may_use_the_same_key(ana_api, api, ana, bob, rows):
    dataset = rows.dataset(ana.user_id)
    submit(ana_api, "k", datasets=[dataset])

    assert submit(api(bob.user_id), "k", datasets=[dataset]).status_code == 201


def test_nobody_publishes_into_the_model_of_another(ana_api, api, ana, bob, rows):
    dataset = rows.dataset(ana.user_id, "cells")
    submit(ana_api, "k", datasets=[dataset])
    bobs = api(bob.user_id)

    named = submit(bobs, "k1", datasets=[dataset], model_name="cells")
    unnamed = submit(bobs, "k2", datasets=[dataset])

    assert named.status_code == 403
    assert "belongs to somebody else" in named.json["detail"]
    assert unnamed.json["jobs"][0]["model_name"] == "cells (bob)"


def test_another_choice_on_the_same_page_is_another_request(ana, rows):
    first = form_values([rows.dataset(ana.user_id, "cells")])
    second = form_values([rows.dataset(ana.user_id, "leaves")])

    ana.send("/jobs/new", "/jobs/new", **first)
    ana.send("/jobs/new", "/jobs/new", **second)

    assert count_jobs(rows) == 2


def test_a_queue_that_no_worker_serves_is_refused(ana_api, ana, rows):
    dataset = rows.dataset(ana.user_id)

    answer = submit(ana_api, "k", datasets=[dataset], queue="nosuch")

    assert answer.status_code == 400
    assert "No worker serves the queue 'nosuch'" in answer.json["detail"]
    assert count_jobs(rows) == 0


def test_a_double_click_makes_one_job(ana, rows):
    values = form_values([rows.dataset(ana.user_id)])

    first = ana.send("/jobs/new", "/jobs/new", **values)
    second = ana.send("/jobs/new", "/jobs/new", **values)

    assert first.location == second.location
    assert count_jobs(rows) == 1


def test_the_form_offers_what_it_was_sent_when_something_is_wrong(ana, rows):
    values = form_values([rows.dataset(ana.user_id)], **{"set.batch_size": "0"})

    answer = ana.send("/jobs/new", "/jobs/new", **values)

    assert answer.status_code == 400
    assert "batch_size" in answer.text
    assert 'value="form-key"' in answer.text
    assert count_jobs(rows) == 0


def test_the_advanced_fields_reach_the_spec(ana, rows):
    values = form_values(
        [rows.dataset(ana.user_id)],
        **{
            "set.head.units": "256, 64",
            "set.checkpoint_every.steps": "7",
            "set.augmentation.vertical_flip": "true",
            "set.unfreeze_from": "block5a",
        },
    )

    answer = ana.send("/jobs/new", "/jobs/new", **values)

    with rows.database.reading() as session:
        job = job_read_store.get_job(session, int(answer.location.rsplit("/", 1)[1]))
    training = job.spec["training"]
    assert training["head"]["units"] == [256, 64]
    assert training["checkpoint_every"] == {"epochs": None, "steps": 7}
    assert training["augmentation"]["vertical_flip"] is True
    assert training["unfreeze_from"] == "block5a"


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"datasets": []}, 422, "datasets"),
        ({"datasets": [999]}, 404, "999"),
        ({"datasets": ["nothing"]}, 404, "nothing"),
        ({"datasets": [1], "spec": {"preset": "slow"}}, 400, "preset"),
        ({"datasets": [1], "spec": {"overrides": {"epochs": 3}}}, 400, "epochs"),
        ({"datasets": [1], "spec": {"overrides": {"base_model": "X"}}}, 400, "X"),
        ({"datasets": [1], "model_name": "a/b"}, 400, "model"),
        ({"datasets": [1], "colour": "red"}, 422, "colour"),
        ({"datasets": [True]}, 422, "`datasets.0`"),
        ({"datasets": ["\ud800"]}, 422, "`datasets.0`"),
        ({"datasets": [2**63]}, 422, "`datasets.0`"),
        ({"datasets": [1, 1]}, 400, "twice"),
    ],
)
def test_a_refusal_names_what_is_wrong(api, rows, body, status, word):
    owner = rows.user()
    rows.dataset(owner)

    answer = submit(api(owner), **body)

    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert word in answer.json["detail"]


def test_a_dataset_that_is_still_read_cannot_be_trained_on(ana_api, ana, rows):
    dataset_id, _ = rows.reading(ana.user_id)

    answer = submit(ana_api, datasets=[dataset_id])

    assert answer.status_code == 409
    assert "still being read" in answer.json["detail"]


def test_all_jobs_of_a_submission_or_none(ana_api, ana, rows):
    ready = rows.dataset(ana.user_id, "ready")
    reading, _ = rows.reading(ana.user_id, "reading")

    submit(ana_api, datasets=[ready, reading])

    assert count_jobs(rows) == 0


def test_numbers_that_no_row_has_are_not_found(ana):
    values = form_values([2**63, 2**62, "x"])

    answer = ana.send("/jobs/new", "/jobs/new", **values)

    assert answer.status_code == 404


def test_more_than_may_wait_is_refused_and_nothing_is_kept(app, ana, rows, api):
    here = app.extensions["trainyard"]
    more = {"max_waiting_per_user": 3}
    object.__setattr__(here, "settings", here.settings.model_copy(update=more))
    rows.dataset(ana.user_id)
    ask = api(ana.user_id)
    body = {"datasets": ["cells"], "spec": {"sweep": {"grid": {"seed": [1, 2, 3]}}}}

    assert ask("POST", "/jobs", json=body).status_code == 201
    refused = ask("POST", "/jobs", json=body)

    assert refused.status_code == 409
    assert "At most 3 trainings" in refused.json["detail"]
    assert ask("GET", "/jobs?kind=train").json["total"] == 3
    first = ask("GET", "/jobs?kind=train").json["items"][0]["id"]
    ask("POST", f"/jobs/{first}/cancel")
    assert ask("POST", "/jobs", json={"datasets": ["cells"]}).status_code == 201
    assert ask("POST", f"/jobs/{first}/retry").status_code == 409


def test_a_preemptible_job_says_so(ana, rows, api):
    rows.dataset(ana.user_id)
    ask = api(ana.user_id)

    made = ask("POST", "/jobs", json={"datasets": ["cells"], "preemptible": True})

    job = ask("GET", f"/jobs/{made.json['jobs'][0]['id']}").json
    assert (job["preemptible"], job["gives_way_to"]) == (True, None)
