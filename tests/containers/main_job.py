"""The main job, through the containers: two datasets at once, a worker that is killed.

Nothing in it knows of containers but the two kills: it speaks to the published port, as
a user does.
"""

import json
import os
import re
import signal
import threading
import time
from urllib.parse import urlsplit

import httpx

from cli import downloads, try_model, uploads
from cli.api_client import ApiClient, version_path
from shared.settings import Settings
from tests.containers.stack import WORKER
from tests.end_to_end.running_platform import SLOW, draw, write_archive

EMAIL = "ana@example.org"
PASSWORD = "correct horse battery staple"
IMAGES_PER_LABEL = 40
DATASETS = {"shapes": ["stripes", "rings"], "grounds": ["rings", "noise"]}
SPEC = {"preset": "fast", "overrides": {**SLOW, "fine_tune_epochs": 30}}
PATIENCE_SECONDS = 600
LOOK_SECONDS = 0.5
LEASE_SECONDS = Settings.model_fields["lease_seconds"].default


def enter(stack, journal):
    """Makes the first user with a link, signs in with it, and returns a client."""

    with journal.step("The first user comes in by a link"):
        command = ["python", "-m", "cli", "invite", EMAIL, "--role=admin", "--json"]
        link = json.loads(stack.execute("web", *command))["link"]
        with httpx.Client(base_url=stack.url, follow_redirects=True) as browser:
            page = urlsplit(link).path
            form = re.search(
                r'name="csrf_token" value="([^"]+)', browser.get(page).text
            )
            answer = {"csrf_token": form[1], "password": PASSWORD, "again": PASSWORD}
            assert EMAIL in browser.post(page, data=answer).text
            assert browser.get(page).status_code == httpx.codes.NOT_FOUND
        command = ["python", "-m", "cli", "token", "test", f"--user={EMAIL}", "--json"]
        return ApiClient(stack.url, json.loads(stack.execute("web", *command))["token"])


def see_pages(stack, job_id, journal):
    """Signs in anew, and looks at the page of a job with all that it draws with."""
    with httpx.Client(base_url=stack.url, follow_redirects=True) as browser:
        form = re.search(r'name="csrf_token"[^>]*value="([^"]+)', browser.get("/").text)
        answer = {"csrf_token": form[1], "email": EMAIL, "password": PASSWORD}
        browser.post("/sign-in", data=answer).raise_for_status()
        page = browser.get(f"/jobs/{job_id}").raise_for_status().text
        parts = re.findall(r'(?:src|href)="(/(?:static|assets|bootstrap)[^"]+)', page)
        for part in {*parts, f"/jobs/{job_id}/charts.json"}:
            browser.get(part).raise_for_status()
        assert any("bokeh" in part for part in parts), parts
    journal.say(
        f"The page of job {job_id} draws its charts, with all {len(parts)} files"
    )


def upload(client, journal, folder):
    """Uploads both datasets at the same time; returns their numbers by name."""
    added = {}

    def add(name, labels, seed):
        path = folder / f"{name}.zip"
        write_archive(path, labels, IMAGES_PER_LABEL, seed=seed)
        added[name] = uploads.add_local(client, path, name=name, labels=None)

    with journal.step("Uploading two datasets at once"):
        threads = [
            threading.Thread(target=add, args=(name, labels, 5000 * number))
            for number, (name, labels) in enumerate(DATASETS.items())
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(added) == set(DATASETS), "an upload failed; see above"
    with journal.step("Reading both"):
        for row in added.values():
            _wait(client, row["job_id"], "ends", _is_over)
    return {name: added[name]["id"] for name in DATASETS}


def submit(client, datasets):
    """Submits one training for each dataset, in one request; returns the jobs."""
    numbers = list(datasets.values())
    submitted = client.submit(datasets=numbers, specs=[SPEC], key="containers")
    return [job["id"] for job in submitted["jobs"]]


def kill_container(stack, client, job_id, journal):
    """Kills the worker's container half-way and starts it again, as an admin does."""
    step = _wait_until_half_way(client, job_id)
    container = stack.container(WORKER)
    journal.say(f"Job {job_id} is half-way, at step {step}: docker kill {WORKER}")
    began = time.monotonic()
    stack.engine.docker("kill", container)
    code = stack.engine.inspect(container, "{{.State.ExitCode}}")
    assert int(code) == 128 + signal.SIGKILL, code
    stack.engine.docker("start", container)
    _see_it_go_on(client, job_id, step, began, journal)


def kill_first_process(stack, client, job_id, journal):
    """Kills the container's first process half-way; the engine starts it again."""
    step = _wait_until_half_way(client, job_id)
    pid = int(stack.engine.inspect(stack.container(WORKER), "{{.State.Pid}}"))
    journal.say(f"Job {job_id} is half-way, at step {step}: kill -9 of its container")
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    _see_it_go_on(client, job_id, step, began, journal)


def finish(client, jobs, journal):
    """Waits until every job has succeeded, at its second attempt."""
    with journal.step("Training to the end"):
        ended = [_wait(client, number, "ends", _is_over) for number in jobs]
    for job in ended:
        accuracy = job["result"]["accuracy"]
        journal.note(f"job {job['id']}", f"{job['state']}, accuracy {accuracy:.1%}")
        assert (job["attempts"], _last_attempt(job)["outcome"]) == (2, "succeeded")
    return ended


def collect(client, jobs, folder, journal):
    """Downloads both models and classifies new pictures with them, without our code."""
    for job, (name, labels) in zip(jobs, DATASETS.items(), strict=True):
        model, _, number = job["published"].rpartition(":")
        version = client.get_model_version(model, int(number))
        archive = folder / f"{name}-model.zip"
        with journal.step(f"Downloading the model of {name}"):
            path = f"{version_path(version)}/archive"
            downloads.download(client, path, archive, sha256=version["sha256"])
        pictures = [folder / f"{name}-{label}.jpg" for label in labels]
        for picture, label in zip(pictures, labels, strict=True):
            picture.write_bytes(draw(label, seed=99_999))
        with journal.step("Loading it in a process that has TensorFlow alone"):
            answers = try_model.classify(archive, pictures)
        assert [answer["label"] for answer in answers] == labels, answers
        size = f"{archive.stat().st_size / 1e6:.1f} MB, new pictures told apart"
        journal.note(f"model of {name}", size)


def _is_over(job):
    assert job["state"] not in ("failed", "cancelled"), job["reason"]
    return job["state"] == "succeeded"


def _wait_until_half_way(client, job_id):
    def half_way(job):
        assert job["state"] != "succeeded", "the job was over before it was interrupted"
        done = 2 * job["progress_done"] >= job["progress_total"] > 0
        return job["phase"] == "fine_tune" and job["checkpoints"] and done

    job = _wait(client, job_id, "is half-way", half_way)
    return max(row["step"] for row in job["checkpoints"])


def _see_it_go_on(client, job_id, step, began, journal):
    def resumed(job):
        return job["attempts"] == 2 and _last_attempt(job)["start_step"]

    def saved_more(job):
        return max(row["step"] for row in job["checkpoints"]) > start

    start = _last_attempt(_wait(client, job_id, "goes on", resumed))["start_step"]
    seconds = time.monotonic() - began
    assert start >= step, f"it goes on from step {start}, and {step} was saved"
    assert seconds < LEASE_SECONDS, "it waited for the lease of the dead attempt"
    journal.note(f"job {job_id}, from the kill to its next attempt", f"{seconds:.1f} s")
    _wait(client, job_id, "saves more", saved_more)
    seconds = time.monotonic() - began
    journal.note(f"job {job_id}, from the kill to a new checkpoint", f"{seconds:.1f} s")


def _last_attempt(job):
    return max(job["attempt_list"], key=lambda row: row["fence"])


def _wait(client, job_id, what, condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        job = client.get_job(job_id)
        if condition(job):
            return job
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"job {job_id}: {what}: not within {PATIENCE_SECONDS} s")
