"""A submission as one: its progress, and what is asked of all of its jobs."""

import pytest


@pytest.fixture
def jobs(ana, rows):
    """Four jobs of one submission: one published, one running, two queued."""
    dataset = rows.dataset(ana.user_id)
    numbers = [
        rows.job(ana.user_id, dataset, f"job {n}", group_key="g", model=f"m{n}")
        for n in range(4)
    ]
    rows.publish(numbers[0])
    rows.run(numbers[1])
    return numbers


def states(ask):
    return ask("GET", "/groups/g").json["states"]


def test_a_submission_says_how_many_jobs_are_where(api, ana, jobs):
    found = api(ana.user_id)("GET", "/groups/g").json

    assert found["states"] == {"succeeded": 1, "running": 1, "queued": 2}
    assert [job["id"] for job in found["jobs"]] == jobs
    assert found["jobs"][0]["published"] == "m0:1"
    page = ana.get("/groups/g").text
    assert "2 queued · 1 running · 1 succeeded" in page
    assert 'max="4" value="1"' in page


def test_what_is_asked_of_all_is_asked_of_those_that_admit_it(api, ana, jobs):
    ask = api(ana.user_id)

    paused = ask("POST", "/groups/g/pause")
    assert (paused.status_code, paused.json) == (200, {"jobs": jobs[1:], "left": 1})
    assert states(ask) == {"succeeded": 1, "running": 1, "paused": 2}
    assert ask("POST", "/groups/g/resume").json["jobs"] == jobs[1:]
    assert ask("POST", "/groups/g/cancel").json["jobs"] == jobs[1:]
    assert states(ask) == {"succeeded": 1, "running": 1, "cancelled": 2}
    assert ask("POST", "/groups/g/retry").json["jobs"] == jobs[2:]


def test_when_no_job_admits_it_that_is_a_conflict(api, ana, jobs):
    answer = api(ana.user_id)("POST", "/groups/g/retry")

    assert answer.status_code == 409
    assert "None of the 4 jobs" in answer.json["detail"]


def test_others_may_look_and_ask_nothing(api, ana, bob, jobs):
    ask = api(bob.user_id)

    assert ask("GET", "/groups/g").status_code == 200
    assert ask("POST", "/groups/g/cancel").status_code == 403
    assert bob.send("/groups/g/ask/cancel", "/groups/g").status_code == 403
    assert "ask/cancel" not in bob.get("/groups/g").text
    assert states(ask) == {"succeeded": 1, "running": 1, "queued": 2}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/groups/x", 404), ("POST", "/groups/x/cancel", 404),
     ("POST", "/groups/g/dance", 422)],
)  # fmt: skip
def test_what_is_not_there_is_refused(api, ana, jobs, method, path, status):  # noqa: PLR0917
    assert api(ana.user_id)(method, path).status_code == status


def test_the_page_asks_the_same(ana, api, jobs):
    page = ana.get("/groups/g").text
    for words in ("Pause all", "Cancel all"):
        assert words in page
    assert "Retry all" not in page

    assert ana.send("/groups/g/ask/cancel", "/groups/g").status_code == 302

    page = ana.get("/groups/g").text
    assert "3 jobs were asked; 1 could not be" in page
    assert "Retry all" in page
