"""Kill -9 of anything under `up`: the job goes on, and publishes once."""

import os
import signal

import pytest

from tests.end_to_end.running_platform import SLOW, write_archive
from tests.services import wait_until

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(600)]
PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def dataset(platform, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    archive = write_archive(folder / "crash-test.zip", ["stripes", "rings"], seed=7000)
    return platform.run("dataset", "add", str(archive))[0]


def submit(platform, dataset, model):
    submitted = platform.client.submit(
        datasets=[dataset["id"]],
        specs=[{"preset": "fast", "overrides": SLOW}],
        model_name=model,
        key=f"test-{model}",
    )
    return submitted["jobs"][0]["id"]


def wait_for_job(platform, job_id, what, condition):
    def look():
        job = platform.client.get_job(job_id)
        assert job["state"] != "failed", f"{job['reason']}\n{platform.tell()}"
        return job if condition(job) else None

    return wait_until(look, PATIENCE_SECONDS, f"job {job_id} {what}")


def kill_trainer(platform, job_id):
    modules = ("worker.training.run", "worker.training.standby")
    found = [
        process
        for process in platform.processes_of_job(job_id)
        if set(modules) & set(process.cmdline()[2:3])
    ]
    assert len(found) == 1, found
    found[0].kill()


def kill_child(platform, name):
    """Kills a process of `up` and waits until another has taken its place."""
    before = platform.pid_of(name)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: platform.pid_of(name) not in {before, None}, 60, name)


def has_checkpoint_in(phase, after_step=0):
    def condition(job):
        steps = [row["step"] for row in job["checkpoints"]]
        return job["phase"] == phase and max(steps, default=0) > after_step

    return condition


def is_over(job):
    return job["state"] == "succeeded"


def list_versions(platform, model):
    return platform.client.get(f"/models/{model}")["all_versions"]


def test_a_job_survives_its_trainer_its_guardian_and_its_worker(platform, dataset):
    job_id = submit(platform, dataset, "killed-below")

    job = wait_for_job(platform, job_id, "tunes", has_checkpoint_in("fine_tune"))
    kill_trainer(platform, job_id)
    step = max(row["step"] for row in job["checkpoints"])
    job = wait_for_job(
        platform, job_id, "resumed", lambda job: job["attempts"] == 2 and job["phase"]
    )
    job = wait_for_job(
        platform, job_id, "goes on", has_checkpoint_in("fine_tune", after_step=step)
    )
    kill_child(platform, "worker-cpu")
    job = wait_for_job(platform, job_id, "succeeds", is_over)

    assert job["attempts"] == 3
    starts = {row["fence"]: row["start_step"] for row in job["attempt_list"]}
    assert starts[2] >= step
    assert starts[3] > starts[2]
    assert [row["version"] for row in list_versions(platform, "killed-below")] == [1]


def test_a_job_survives_web_broker_reconciler_and_up_itself(platform, dataset):
    job_id = submit(platform, dataset, "killed-above")

    wait_for_job(platform, job_id, "tunes", has_checkpoint_in("fine_tune"))
    for name in ("web", "broker", "reconciler"):
        kill_child(platform, name)
    job = platform.client.get_job(job_id)
    assert job["attempts"] == 1, "what is above a worker must not disturb its job"
    platform.process.kill()
    platform.process.wait()
    platform.start()
    job = wait_for_job(platform, job_id, "succeeds", is_over)

    assert job["attempts"] <= 3
    assert [row["version"] for row in list_versions(platform, "killed-above")] == [1]
