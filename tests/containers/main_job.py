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
        source = uploads.send_one(client, path, None)
        added[name] = uploads.add(client, [source], name=name)

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
            _wait(client, [row["job_id"]], "succeeds", _is_over)
    return {name: added[name]["id"] for name in DATASETS}


def see_forecasts(client, datasets, journal):
    """Waits for the forecasts that the datasets started, and reads what they found."""
    with journal.step("Forecasting both"):
        asked = [client.ask_forecast(number) for number in datasets.values()]
        for found in asked:
            if found["job"]:
                _wait(client, [found["job"]["id"]], "succeeds", _is_over)
    for name, number in datasets.items():
        forecast = client.get_forecast(number)["forecast"]
        findings = client.list_findings(number)
        assert len(findings) == forecast["findings"]["total"], forecast["findings"]
        seconds = f"{forecast['seconds']['total']:.0f} s"
        journal.note(f"forecast of {name}", f"{seconds}, {len(findings)} findings")


def submit(client, datasets):
    """Submits one training for each dataset, in one request; returns the jobs."""
    numbers = list(datasets.values())
    submitted = client.submit(datasets=numbers, specs=[SPEC], key="containers")
    return [job["id"] for job in submitted["jobs"]]


def interrupt(client, jobs, kill, journal):
    """Kills the worker once the job that it runs is half-way.

    Which of two jobs it takes up afterwards is its own choice: mostly the one that it
    was killed at; the other, when somebody just then holds a lock on that one's row.

    Args:
        client: Of the installation.
        jobs: Numbers of those that may be killed, at their first attempt.
        kill: Its words, and what does it and sees to it that the worker comes back.
        journal: Is told.

    Returns:
        The job, and its last step that had been saved.
    """
    words, act = kill
    job = _wait(client, jobs, "half-way", _is_half_way)
    step = max(row["step"] for row in job["checkpoints"])
    before = _count_attempts(client)
    journal.say(f"Job {job['id']} is half-way and saved at step {step}: {words}")
    began = time.monotonic()
    act()
    while _is_held(client, job["id"]) or _count_attempts(client) == before:
        assert time.monotonic() - began < LEASE_SECONDS, "it waited for the dead lease"
        time.sleep(LOOK_SECONDS)
    seconds = time.monotonic() - began
    journal.note(f"from {words} to the next attempt", f"{seconds:.1f} s")
    return job["id"], step


def list_kills(stack):
    """Returns two ways to kill the worker's container, with their words.

    An admin answers the first by starting it again, the engine itself the second. The
    processes of an engine that is not ours are not ours to kill: there the first comes
    twice.
    """

    def kill_container():
        container = stack.container(WORKER)
        stack.engine.docker("kill", container)
        code = stack.engine.inspect(container, "{{.State.ExitCode}}")
        assert int(code) == 128 + signal.SIGKILL, code
        stack.engine.docker("start", container)

    def kill_first_process():
        pid = stack.engine.inspect(stack.container(WORKER), "{{.State.Pid}}")
        os.kill(int(pid), signal.SIGKILL)

    first = ("docker kill", kill_container)
    second = ("kill -9 of its first process", kill_first_process)
    return first, second if stack.engine.ours else first


def finish(client, jobs, saved, journal):
    """Waits until every job has succeeded, at a second attempt that lost little.

    Args:
        client: Of the installation.
        jobs: Their numbers.
        saved: For each, the step that had been saved when it was killed.
        journal: Is told.
    """
    with journal.step("Training to the end"):
        ended = [_wait(client, [number], "succeeds", _is_over) for number in jobs]
    for job in ended:
        number, last = job["id"], max(job["attempt_list"], key=lambda row: row["fence"])
        assert (job["attempts"], last["outcome"]) == (2, "succeeded"), last
        assert last["start_step"] >= saved[number], last
        accuracy = f"accuracy {job['result']['accuracy']:.1%}"
        steps = f"went on from step {last['start_step']} of {job['last_step']}"
        journal.note(f"job {number}", f"{job['state']}, {steps}, {accuracy}")
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


def _is_half_way(job):
    assert not _is_over(job), "the job was over before it was interrupted"
    done = 2 * job["progress_done"] >= job["progress_total"] > 0
    return job["phase"] == "fine_tune" and job["checkpoints"] and done


def _is_held(client, number):
    """Whether the killed attempt still has the job."""
    job = client.get_job(number)
    return job["state"] == "running" and job["attempts"] == 1


def _count_attempts(client):
    return sum(job["attempts"] for job in client.list_jobs(kind="train")["items"])


def _wait(client, jobs, what, condition):
    """Returns the first of the jobs that meets the condition."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for number in jobs:
            job = client.get_job(number)
            if condition(job):
                return job
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"jobs {jobs}: not {what} within {PATIENCE_SECONDS} s")
