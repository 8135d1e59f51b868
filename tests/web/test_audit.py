"""The audit on its page and in the API: for admins."""

import pytest


@pytest.fixture
def moved(api, ana, rows):
    """A job of ana's that she has moved."""
    dataset = rows.dataset(ana.user_id)
    jobs = [rows.job(ana.user_id, dataset, name) for name in "ab"]
    api(ana.user_id)("POST", f"/jobs/{jobs[1]}/move", json={"before": jobs[0]})
    return jobs[1]


def test_it_says_who_did_what_to_which_object(api, root, moved):
    ask = api(root.user_id)
    path = f"/audit?object_type=job&object_id={moved}"

    newest, *older = ask("GET", path).json["items"]

    assert (newest["who"], newest["event"]) == ("ana@example.org", "job_moved")
    assert newest["detail"] == {"before": moved - 1}
    assert older[-1]["event"] == "job_submitted"
    page = root.get(f"/audit?type=job&id={moved}").text
    assert "job moved" in page
    assert "ana@example.org" in page
    assert f"before: {moved - 1}" in page


def test_what_one_user_did_is_found(api, ana, root, moved):
    ask = api(root.user_id)

    mine = ask("GET", f"/audit?actor=user:{ana.user_id}").json

    assert {line["who"] for line in mine["items"]} == {"ana@example.org"}
    assert ask("GET", "/audit?actor=user:99").json["total"] == 0
    assert "No such lines" in root.get("/audit?actor=user:99").text


def test_it_is_for_admins(api, ana, root, moved):
    assert api(ana.user_id)("GET", "/audit").status_code == 403
    assert ana.get("/audit").status_code == 403
    assert "Audit</a>" in root.get("/users").text


def test_pausing_a_queue_is_on_record(api, root):
    ask = api(root.user_id)
    ask("POST", "/queues/pause", json={"queue": "default"})

    (line,) = ask("GET", "/audit?object_type=queue").json["items"]

    assert (line["event"], line["object_id"]) == ("queue_paused", "default")
