"""Who may ask what of jobs, datasets and models, and in which state."""

import pytest

VERBS = ("cancel", "pause", "resume", "finish", "retry")


@pytest.fixture
def job_id(ana, rows):
    return rows.job(ana.user_id, rows.dataset(ana.user_id))


@pytest.mark.parametrize("verb", VERBS)
def test_members_may_not_ask_of_others_jobs(api, bob, job_id, verb):
    assert api(bob.user_id)("POST", f"/jobs/{job_id}/{verb}").status_code == 403


def test_members_see_others_jobs(bob, api, job_id):
    assert bob.get(f"/jobs/{job_id}").status_code == 200
    assert "/ask/" not in bob.get(f"/jobs/{job_id}").text
    assert api(bob.user_id)("GET", f"/jobs/{job_id}").status_code == 200


def test_admins_may_ask_of_every_job(root, job_id):
    answer = root.send(f"/jobs/{job_id}/ask/cancel", f"/jobs/{job_id}")

    assert answer.status_code == 302
    assert "cancelled" in root.get(f"/jobs/{job_id}").text


def test_a_queued_job_can_be_paused_resumed_and_cancelled(api, ana, job_id):
    ask = api(ana.user_id)

    states = [
        ask("POST", f"/jobs/{job_id}/{verb}").json["state"]
        for verb in ("pause", "resume", "cancel", "retry")
    ]

    assert states == ["paused", "queued", "cancelled", "queued"]


def test_a_running_job_is_asked_to_stop(api, ana, rows, job_id):
    rows.run(job_id)

    answer = api(ana.user_id)("POST", f"/jobs/{job_id}/finish")

    assert (answer.json["state"], answer.json["desired"]) == ("running", "finish")
    assert "finishing" in ana.get(f"/jobs/{job_id}").text


def test_what_the_state_does_not_admit_is_a_conflict(api, ana, job_id):
    answer = api(ana.user_id)("POST", f"/jobs/{job_id}/resume")

    assert answer.status_code == 409
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/jobs/{job}", "/datasets/{dataset}", "/models/cells/versions/1"]
)
def test_deleting_is_for_owners_and_admins(api, rows, path):
    ana, bob, root = rows.user(), rows.user("b"), rows.user("r", "admin")
    dataset = rows.dataset(ana)
    job = rows.job(ana, dataset)
    sha, _ = rows.publish(job)
    path = path.format(job=job, dataset=dataset)

    assert api(bob)("DELETE", path).status_code == 403
    assert rows.storage.artifact(sha).exists()
    answer = api(root)("DELETE", path)

    assert answer.status_code == 200, answer.text
    assert answer.json["went"]


def test_deleting_a_version_gives_the_disk_back(ana, rows):
    job = rows.job(ana.user_id, rows.dataset(ana.user_id))
    sha, _ = rows.publish(job)
    page = "/models/cells/1/delete"
    assert "What goes with it" in ana.get(page).text

    ana.send(page, page)

    assert not rows.storage.artifact(sha).exists()
    assert ana.get("/models/cells/1").status_code == 404


def test_deleting_a_dataset_gives_the_disk_back(ana, rows):
    dataset = rows.dataset(ana.user_id)
    page = f"/datasets/{dataset}/delete"
    assert "1 version" in ana.get(page).text

    ana.send(page, page)

    assert not (rows.storage.root / "datasets" / str(dataset)).exists()


def test_a_dataset_in_use_cannot_be_deleted(ana, rows, job_id):
    page = "/datasets/1/delete"

    assert "cannot be deleted" in ana.get(page).text
    assert ana.send(page, page).status_code == 409


def test_a_job_that_has_not_ended_cannot_be_deleted(api, ana, job_id):
    assert api(ana.user_id)("DELETE", f"/jobs/{job_id}").status_code == 409
