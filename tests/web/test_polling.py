"""Polled parts of pages: the same content is not sent twice; health answers."""

import subprocess
import sys
from pathlib import Path

from tests.web.report_example import make_report


def test_an_unchanged_table_is_answered_with_304(ana, rows):
    rows.job(ana.user_id, rows.dataset(ana.user_id))
    first = ana.get("/jobs/table")

    again = ana.get("/jobs/table", headers={"If-None-Match": first.headers["ETag"]})

    assert again.status_code == 304
    assert not again.data


def test_a_changed_table_is_sent_again(ana, rows):
    dataset = rows.dataset(ana.user_id)
    tag = ana.get("/jobs/table").headers["ETag"]
    rows.job(ana.user_id, dataset, "a new job")

    again = ana.get("/jobs/table", headers={"If-None-Match": tag})

    assert again.status_code == 200
    assert "a new job" in again.text


def test_a_part_of_a_page_carries_no_form_token(ana, rows):
    job_id = rows.job(ana.user_id, rows.dataset(ana.user_id))

    assert "csrf" not in ana.get(f"/jobs/{job_id}/live").text


def test_polling_of_an_ended_job_stops(ana, rows):
    job_id = rows.job(ana.user_id, rows.dataset(ana.user_id))
    assert "X-Poll" not in ana.get(f"/jobs/{job_id}/live").headers
    rows.publish(job_id)

    assert ana.get(f"/jobs/{job_id}/live").headers["X-Poll"] == "stop"


def test_polling_of_a_submission_stops_when_all_its_jobs_have_ended(ana, rows):
    dataset = rows.dataset(ana.user_id)
    jobs = [rows.job(ana.user_id, dataset, group_key="g") for _ in range(2)]
    rows.publish(jobs[0])
    shown = ana.get("/groups/g/table")
    assert "X-Poll" not in shown.headers
    assert "Download the model" in shown.text

    rows.fail(jobs[1])

    assert ana.get("/groups/g/table").headers["X-Poll"] == "stop"


def test_names_and_labels_cannot_bring_markup(ana, rows):
    evil = "<img src=x onerror=alert(1)>"
    dataset = rows.dataset(ana.user_id, evil, (evil, '"><script>alert(2)</script>'))
    job_id = rows.job(ana.user_id, dataset, evil, group_key="g", model="m")
    rows.publish(job_id, (evil, '"><script>alert(2)</script>'))

    for path in (
        "/jobs", "/jobs/new", f"/jobs/{job_id}", "/datasets", f"/datasets/{dataset}",
        f"/datasets/{dataset}/delete", "/models/m/1", "/groups/g",
    ):  # fmt: skip
        html = ana.get(path).text
        assert "<img src=x" not in html, path
        assert "<script>alert" not in html, path


def test_a_thumbnail_cannot_name_other_files(ana, rows):
    dataset = rows.dataset(ana.user_id)
    base = f"/datasets/{dataset}/versions/1/thumbnails"

    samples = make_report(("intact", "defective"))["samples"]
    answer = ana.get(f"{base}/{Path(samples[0]['path']).name}")
    assert answer.headers["Cache-Control"] == "private, max-age=86400"
    assert ana.get(f"{base}/report.json").status_code == 404
    assert ana.get(f"{base}/..%2Freport.json").status_code == 404


def test_long_tables_come_in_pages(ana, rows):
    dataset = rows.dataset(ana.user_id)
    for number in range(51):
        rows.job(ana.user_id, dataset, f"job number {number}")

    assert "job number 0<" not in ana.get("/jobs").text
    assert "job number 0<" in ana.get("/jobs?page=2").text


def test_health_and_readiness(person):
    assert person.get("/healthz").json == {"status": "ok"}
    assert person.get("/readyz").json["database"] == "ok"


def test_not_ready_without_storage(person, rows):
    rows.storage.root.rename(rows.storage.root.with_name("away"))

    assert person.get("/readyz").status_code == 503


def test_the_web_imports_no_framework():
    code = (
        "import sys, web.app; "
        "assert not {'tensorflow', 'keras', 'cv2', 'jax'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True, cwd=".")
