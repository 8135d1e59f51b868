"""The queue page and its API: what waits, in which order, and who may move it."""

import pytest
from sqlalchemy import update

from shared import job_order_store, promise_store
from shared.tables import Job
from tests import factories
from web.jobs.promises import Errors, measure


@pytest.fixture
def jobs(ana, rows):
    """Three jobs of ana's, in order."""
    dataset = rows.dataset(ana.user_id)
    return [rows.job(ana.user_id, dataset, f"job {n}") for n in "abc"]


def order(ask):
    return [job["id"] for job in ask("GET", "/queue").json["items"]]


def test_the_queue_is_listed_in_the_order_of_its_start(api, ana, jobs):
    listed = api(ana.user_id)("GET", "/queue").json

    assert [(j["position"], j["id"]) for j in listed["items"]] == [*enumerate(jobs, 1)]
    assert {job["queue"] for job in listed["items"]} == {"default"}
    assert listed["total"] == 3


def test_a_later_page_counts_on(api, ana, jobs):
    listed = api(ana.user_id)("GET", "/queue?page=2&page_size=2").json

    assert [(job["position"], job["id"]) for job in listed["items"]] == [(3, jobs[2])]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"to": "first"}, "cab"),
        ({"to": "up"}, "acb"),
        ({"before": 0}, "cab"),
        ({"after": 0}, "acb"),
    ],
)
def test_owners_move_their_jobs(api, ana, jobs, wish, expected):
    ask = api(ana.user_id)
    body = {k: jobs[v] if isinstance(v, int) else v for k, v in wish.items()}

    answer = ask("POST", f"/jobs/{jobs[2]}/move", json=body)

    assert (answer.status_code, answer.json["id"]) == (200, jobs[2])
    assert order(ask) == [jobs["abc".index(name)] for name in expected]


ONE_OF = "one of `to`, `before` and `after`"


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({}, (400, ONE_OF)),
        ({"to": "first", "before": 1}, (400, ONE_OF)),
        ({"to": "top"}, (422, "to")),
        ({"before": 999}, (404, "There is no job 999")),
        ({"before": True}, (422, "before")),
        ({"beside": 1}, (422, "beside")),
    ],
)
def test_wishes_that_mean_nothing_are_refused_by_name(api, ana, jobs, body, refusal):
    ask = api(ana.user_id)

    answer = ask("POST", f"/jobs/{jobs[0]}/move", json=body)

    status, words = refusal
    assert answer.status_code == status
    assert words in answer.text
    assert order(ask) == jobs


def test_a_job_that_runs_has_no_place(api, ana, rows, jobs):
    rows.run(jobs[0])

    answer = api(ana.user_id)("POST", f"/jobs/{jobs[0]}/move", json={"to": "last"})

    assert answer.status_code == 409
    assert "Look at the queue again" in answer.json["detail"]


def test_members_move_no_jobs_of_others(api, ana, bob, root, jobs):
    path, body = f"/jobs/{jobs[2]}/move", {"to": "first"}

    assert api(bob.user_id)("POST", path, json=body).status_code == 403
    refused = api(bob.user_id)(
        "POST", f"/jobs/{jobs[2]}/priority", json={"priority": 9}
    )
    assert refused.status_code == 403
    assert bob.send(path, "/jobs/queue", **body).status_code == 403
    assert 'class="drag"' not in bob.get("/jobs/queue").text
    assert order(api(ana.user_id)) == jobs
    assert api(root.user_id)("POST", path, json=body).status_code == 200


def test_priorities_are_changed_while_a_job_waits(api, ana, rows, jobs):
    ask = api(ana.user_id)

    answer = ask("POST", f"/jobs/{jobs[1]}/priority", json={"priority": 7})

    assert answer.json["priority"] == 7
    assert order(ask)[0] == jobs[1]
    over = ask("POST", f"/jobs/{jobs[1]}/priority", json={"priority": 101})
    assert over.status_code == 422
    rows.run(jobs[1])
    late = ask("POST", f"/jobs/{jobs[1]}/priority", json={"priority": 1})
    assert late.status_code == 409


def test_the_page_shows_and_moves(api, ana, jobs):
    page = ana.get("/jobs/queue").text
    places = [page.index(f'id="waiting-{job}"') for job in jobs]
    assert places == sorted(places)

    answer = ana.send(f"/jobs/{jobs[0]}/move", "/jobs/queue", to="down", kind="train")

    assert (answer.status_code, answer.location) == (302, "/jobs/queue?kind=train")
    assert order(api(ana.user_id)) == [jobs[1], jobs[0], jobs[2]]


def test_the_page_refuses_what_the_api_refuses(ana, jobs):
    answer = ana.send(f"/jobs/{jobs[0]}/move", "/jobs/queue", to="top")

    assert answer.status_code == 400
    assert "must be one of first, up, down, last" in answer.text


def test_an_empty_queue_says_so(ana):
    assert "Nothing waits" in ana.get("/jobs/queue").text
    assert "Nothing waits" in ana.get("/jobs/queue?kind=ingest").text


@pytest.fixture
def outlook(app, rows, ana, jobs):
    """A worker, and a job that has taken a while: durations can be told."""
    done = rows.job(ana.user_id, 1, "done", model="other")
    with rows.database.transaction() as s:
        target = job_order_store.find_neighbour(s, done, "first")
        job_order_store.move(s, done, target, actor="user:1")
    rows.publish(done)  # by the one worker there is
    with rows.database.transaction() as s:
        s.execute(
            update(Job).where(Job.state == "succeeded").values(running_ms=100_000)
        )
    return app.extensions["trainyard"].outlook


def test_waiting_jobs_are_told_when_they_start_and_end(api, ana, jobs, outlook):
    first, second, _ = api(ana.user_id)("GET", "/queue").json["items"]

    assert first["expected_end_at"] - first["expected_start_at"] == 100_000
    assert second["expected_start_at"] == first["expected_end_at"]
    page = ana.get("/jobs/queue").text
    assert "in 3 min" in page
    assert (
        "expected to start in 2 min, to end in 3 min"
        in ana.get(f"/jobs/{jobs[1]}").text
    )


def test_without_workers_the_page_says_that_nobody_can_tell(ana, jobs):
    page = ana.get("/jobs/queue").text

    assert page.count(">unknown<") == 2 * len(jobs)
    assert "expected to start" not in ana.get(f"/jobs/{jobs[0]}").text


def test_what_was_promised_is_compared_with_what_came(ana, rows, jobs, outlook):
    assert "Nothing to compare yet" in ana.get("/jobs/queue/promised").text
    with rows.database.transaction() as s:
        promise_store.keep(s, outlook.look())
    rows.publish(jobs[0])

    page = ana.get("/jobs/queue/promised").text
    chart = ana.get("/jobs/queue/promised.json").json

    assert "Of the last 1 jobs that started" in page
    assert f"Job {jobs[0]}</a>" in page
    assert "1 min 40 s" in page
    assert chart["columns"]["waits"]["job"] == [jobs[0]]
    assert chart["chart"]["target_id"] == "chart-promises"


def test_errors_are_measured_whichever_way_they_go():
    assert measure([]) is None
    assert measure([-4000]) == Errors(1, 4, 4)
    assert measure([1000, -2000, 3000, -60_000]) == Errors(4, 2.5, 60)
    assert measure([*range(1000, 101_000, 1000)]) == Errors(100, 50.5, 91)


def test_admins_pause_and_resume_a_queue(api, ana, root, rows, jobs):
    ask = api(root.user_id)
    rows.run(jobs[0])

    paused = ask("POST", "/queues/pause", json={"queue": "default"})

    assert paused.json == {"queue": "default", "jobs": []}
    (default,) = ask("GET", "/queues").json["items"]
    counts = {name: default[name] for name in ("queued", "running", "paused")}
    assert counts == {"queued": 2, "running": 1, "paused": 0}
    assert default["paused_at"] is not None
    with rows.database.transaction() as s:
        assert factories.claim(s) is None
    assert "is paused since" in ana.get("/jobs/queue").text
    assert "its queue is paused" in ana.get(f"/jobs/{jobs[1]}").text

    ask("POST", "/queues/resume", json={"queue": "default"})
    with rows.database.transaction() as s:
        assert factories.claim(s).job_id == jobs[1]


def test_running_jobs_are_paused_with_their_queue_and_come_back_with_it(
    api, root, rows, jobs
):
    ask = api(root.user_id)
    rows.run(jobs[0])
    pause = {"queue": "default", "running_too": True}

    assert ask("POST", "/queues/pause", json=pause).json["jobs"] == [jobs[0]]
    assert ask("GET", f"/jobs/{jobs[0]}").json["desired"] == "pause"
    again = ask("POST", "/queues/pause", json=pause)
    assert (again.status_code, again.json["jobs"]) == (200, [])
    resume = {"queue": "default", "paused_too": True}
    assert ask("POST", "/queues/resume", json=resume).json["jobs"] == [jobs[0]]
    assert ask("GET", f"/jobs/{jobs[0]}").json["desired"] == "run"


def test_only_admins_steer_whole_queues(api, ana, root, jobs):
    for verb in ("pause", "resume"):
        answer = api(ana.user_id)("POST", f"/queues/{verb}", json={"queue": "default"})
        assert answer.status_code == 403
        refused = ana.send(f"/jobs/queue/{verb}", "/jobs/queue", queue="default")
        assert refused.status_code == 403
    assert "Pause the queue" not in ana.get("/jobs/queue").text
    assert "Pause the queue default" in root.get("/jobs/queue").text

    assert root.send("/jobs/queue/pause", "/jobs/queue", queue="default").location
    assert "Resume the queue default" in root.get("/jobs/queue").text
    assert root.send("/jobs/queue/resume", "/jobs/queue", queue="default").location
    assert "Pause the queue default" in root.get("/jobs/queue").text


@pytest.mark.parametrize(
    "path", ["/audit?id=%00", "/audit?actor=%00", "/groups/%00", "/jobs?state=%00"]
)
def test_text_that_cannot_be_stored_is_refused_by_name(root, path):
    answer = root.get(path)

    assert answer.status_code == 400
    assert "cannot be stored" in answer.text


def test_a_neighbour_that_no_row_has_is_refused(root, jobs):
    answer = root.send(f"/jobs/{jobs[0]}/move", "/jobs/queue", before=10**30)

    assert answer.status_code == 400


@pytest.mark.parametrize("name", ["", "x" * 65, "day\0"])
def test_a_name_that_no_queue_has_is_refused(api, root, name):
    answer = api(root.user_id)("POST", "/queues/pause", json={"queue": name})
    assert answer.status_code == 422
    page = root.send("/jobs/queue/pause", "/jobs/queue", queue=name)
    assert page.status_code == 400
