"""Every page answers, with rows and without."""

import pytest
from sqlalchemy import update

from shared.tables import Job

PAGES = (
    "/jobs",
    "/jobs/new",
    "/datasets",
    "/datasets/add",
    "/models",
    "/workers",
    "/account",
)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_without_rows_answers(ana, path):
    assert ana.get(path).status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_a_page_sends_strangers_to_the_sign_in(person, path):
    answer = person.get(path)

    assert answer.status_code == 302
    assert "/sign-in" in answer.location


def test_every_page_of_a_finished_job_answers(ana, rows):
    dataset_id = rows.dataset(ana.user_id)
    job_id = rows.job(ana.user_id, dataset_id, group_key="g1")
    rows.publish(job_id)

    for path in (
        "/jobs",
        f"/jobs/{job_id}",
        f"/jobs/{job_id}/live",
        f"/jobs/{job_id}/log",
        f"/jobs/{job_id}/charts.json",
        f"/jobs/{job_id}/points.json",
        f"/jobs/{job_id}/delete",
        "/groups/g1",
        f"/datasets/{dataset_id}",
        f"/datasets/{dataset_id}/delete",
        "/models",
        "/models/cells",
        "/models/cells/1",
        "/models/cells/1/delete",
    ):
        answer = ana.get(path)
        assert answer.status_code == 200, (path, answer.text)


def test_a_job_s_page_says_how_long_training_waited_for_data(ana, rows):
    job_id = rows.job(ana.user_id, rows.dataset(ana.user_id))
    rows.run(job_id, epochs=6)
    sentence = "Training waited 1.2 s of 1 min 25 s for data."

    page = ana.get(f"/jobs/{job_id}").text
    polled = ana.get(f"/jobs/{job_id}/points.json").json

    assert f'<p class="quiet" id="waiting" >{sentence}</p>' in page
    assert polled["waiting"] == sentence


def test_a_job_s_page_says_nothing_of_waiting_that_nobody_measured(ana, rows):
    job_id = rows.job(ana.user_id, rows.dataset(ana.user_id))

    page = ana.get(f"/jobs/{job_id}").text

    assert '<p class="quiet" id="waiting" hidden></p>' in page
    assert ana.get(f"/jobs/{job_id}/points.json").json["waiting"] == ""


@pytest.mark.parametrize(
    "path",
    [
        "/datasets/1?version=9",
        f"/datasets/{2**63}",
        f"/jobs/{2**63}",
        "/jobs/0",
        "/models/none",
        "/models/cells/9",
        "/groups/none",
        "/nowhere",
    ],
)
def test_what_is_not_there_is_said_on_a_page(ana, rows, path):
    rows.publish(rows.job(ana.user_id, rows.dataset(ana.user_id)))

    answer = ana.get(path)

    assert answer.status_code == 404
    assert "<h1>Not found</h1>" in answer.text


def test_a_job_that_gives_way_says_to_which(ana, rows):
    dataset = rows.dataset(ana.user_id)
    job = rows.job(ana.user_id, dataset)
    with rows.database.transaction() as s:
        s.execute(update(Job).where(Job.id == job).values(preemptible=True))
    assert "More urgent jobs may interrupt it" in ana.get(f"/jobs/{job}").text

    rows.run(job)
    with rows.database.transaction() as s:
        s.execute(
            update(Job).where(Job.id == job).values(desired="pause", gives_way_to=77)
        )

    html = ana.get(f"/jobs/{job}").text
    assert "giving way" in html
    assert '<a href="/jobs/77">job 77</a>' in html


def test_a_datasets_page_holds_some_of_very_many_notes_of_any_length(ana, rows):
    notes = [f"note {at} {'n' * 131_072}" for at in range(130)]
    dataset_id = rows.dataset(ana.user_id, notes=notes)

    page = ana.get(f"/datasets/{dataset_id}").text

    assert "note 119 n" in page
    assert "note 120 n" not in page
    assert len(page) < 400_000


def test_a_datasets_page_counts_the_conflicts_that_it_does_not_show(ana, rows):
    dataset_id = rows.dataset(ana.user_id, conflicts=20_000)

    page = ana.get(f"/datasets/{dataset_id}").text

    assert "a/1.jpg, b/9.jpg and 23 more" in page
    assert "the first 100 of 20,000" in page
