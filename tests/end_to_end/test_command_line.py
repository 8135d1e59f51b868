"""The command line against a running platform, as a script would use it."""

import hashlib
import json
import socket
import zipfile

import httpx
import pytest

from tests.end_to_end.running_platform import SLOW, TINY, draw
from tests.services import wait_until

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(600)]
PATIENCE_SECONDS = 120
SETTINGS = [f"--set={name}={value}" for name, value in TINY.items()]
LONG = [f"--set={name}={json.dumps(value)}" for name, value in SLOW.items()]


@pytest.fixture(scope="module")
def dataset(platform, tmp_path_factory):
    """A folder of pictures without class folders, and a table of their labels."""
    folder = tmp_path_factory.mktemp("pictures") / "by table"
    folder.mkdir()
    lines = ["filename,label"]
    for number in range(40):
        label = ("stripes", "rings")[number % 2]
        (folder / f"{number:03d}.jpg").write_bytes(draw(label, seed=9000 + number))
        lines.append(f"{number:03d}.jpg,{label}")
    (folder / "040.jpg").write_bytes(b"<html>not found</html>")
    table = folder.parent / "labels.csv"
    table.write_text("\n".join([*lines, "040.jpg,rings", ""]))
    return platform.run("dataset", "add", str(folder), "--labels", str(table))[0]


def test_a_folder_with_a_table_is_added_and_its_bad_file_named(platform, dataset):
    shown = platform.run("dataset", "show", dataset["name"])
    listed = platform.run("dataset", "list")

    assert dataset["name"] == "by table"
    assert shown["report"]["images"] == 40
    assert [row["file"] for row in shown["report"]["skipped"]] == ["040.jpg"]
    assert dataset["id"] in [row["id"] for row in listed]


def test_a_training_is_submitted_followed_and_downloaded(platform, dataset, tmp_path):
    asked = ["submit", "-d", "by table", "--key=cli-1", "--model=from cli", *SETTINGS]
    submitted = platform.run(*asked, "--wait")
    again = platform.run(*asked)
    watched = platform.run("watch", str(submitted["jobs"][0]["id"]))
    models = platform.run("models")
    got = platform.run("download", "from cli", "-o", str(tmp_path / "model.zip"))

    assert submitted["jobs"][0]["state"] == "succeeded"
    assert [job["id"] for job in again["jobs"]] == [submitted["jobs"][0]["id"]]
    assert watched[0]["published"] == "from cli:1"
    assert [
        row["latest"]["version"] for row in models if row["name"] == "from cli"
    ] == [1]
    content = (tmp_path / "model.zip").read_bytes()
    assert got["sha256"] == hashlib.sha256(content).hexdigest()
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert any(name.endswith("saved_model.pb") for name in archive.namelist())


def test_a_dataset_is_forecast_and_its_promise_kept_beside_what_came(platform, dataset):
    told = platform.run("forecast", "by table", "--wait")
    training = platform.run("submit", "-d", "by table", "--model=promised", "--wait")
    promises = platform.run("promises")["items"]
    findings = platform.run("dataset", "doctor", "by table")

    forecast = told["forecast"]
    assert forecast["difficulty"]["grade"] in {"easy", "moderate", "hard", "very hard"}
    assert set(forecast["presets"]) == {"fast", "balanced", "best"}
    assert forecast["winner"] == forecast["base_models"][0]["name"]
    (kept,) = [p for p in promises if p["job_id"] == training["jobs"][0]["id"]]
    assert kept["preset"] == "fast"
    assert kept["accuracy_low"] == forecast["presets"]["fast"]["accuracy"][0]
    assert 0 <= kept["delivered_accuracy"] <= 1
    assert kept["delivered_seconds"] > 0
    assert "040.jpg" in {p["name"] for f in findings for p in f["pictures"]}
    notes = platform.client.get_job(kept["job_id"])["notes"]
    assert any("Found the features" in note["message"] for note in notes)


def wait_for(platform, number, what, condition):
    def look():
        job = platform.client.get_job(number)
        return job if condition(job) else None

    return wait_until(look, PATIENCE_SECONDS, f"job {number} {what}")


def test_a_training_is_paused_resumed_and_finished_early(platform, dataset):
    asked = platform.run("submit", "-d", "by table", "--model=early", *LONG)
    number = asked["jobs"][0]["id"]

    def tunes(job):
        return job["phase"] == "fine_tune" and job["checkpoints"]

    before = wait_for(platform, number, "tunes", tunes)
    platform.run("pause", str(number))
    wait_for(platform, number, "pauses", lambda job: job["state"] == "paused")
    platform.run("resume", str(number))
    again = wait_for(
        platform, number, "goes on", lambda job: job["attempts"] == 2 and tunes(job)
    )
    platform.run("finish", str(number))
    ended = platform.run("watch", str(number))[0]

    assert ended["state"] == "succeeded"
    assert ended["published"] == "early:1"
    steps = {row["fence"]: row["start_step"] for row in again["attempt_list"]}
    assert steps[2] >= max(row["step"] for row in before["checkpoints"])
    last = max(
        point["epoch"]
        for point in platform.client.get(f"/jobs/{number}/metrics")["epochs"]
    )
    assert last < SLOW["frozen_epochs"] + SLOW["fine_tune_epochs"] - 1


def test_a_drained_worker_takes_no_job_until_it_is_readmitted(platform, dataset):
    name = f"{socket.gethostname()}/cpu"
    drained = platform.run("worker", "drain", name, "--wait")
    number = platform.run("submit", "-d", "by table", *SETTINGS)["jobs"][0]["id"]
    status = {row["name"]: row["status"] for row in platform.run("worker", "status")}
    waiting = platform.client.get_job(number)
    platform.run("worker", "readmit", name)
    wait_until(
        lambda: platform.client.get_job(number)["state"] == "running", 60, "the job"
    )
    platform.run("cancel", str(number))

    assert drained == {"draining": [name], "idle": True}
    assert status[name] == "draining"
    assert waiting["state"] == "queued"
    wait_until(
        lambda: platform.client.get_job(number)["state"] == "cancelled", 60, "cancel"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["submit", "-d", "by table", "--set", "epochs=3"],
            "`epochs` is not a training",
        ),
        (["submit", "-d", "by table", "-p", "slow"], "one of fast, balanced, best"),
        (["submit", "-d", "nothing"], "There is no dataset 'nothing'"),
        (["download", "nothing"], "nothing"),
        (["watch", "999999"], "999999"),
        (["dataset", "add", "/no/such/place"], "There is nothing at /no/such/place"),
        (["worker", "drain", "elsewhere/cpu"], "There is no worker 'elsewhere/cpu'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    platform, dataset, arguments, sentence
):
    done = platform.call(*arguments)

    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_doctor_finds_a_running_platform_well(platform):
    findings = platform.run("doctor")

    assert [row for row in findings if row["state"] == "broken"] == []


def test_an_invitation_opens_the_page_where_a_password_is_chosen(platform):
    link = platform.run("invite", "somebody@example.org")["link"]

    page = httpx.get(link, follow_redirects=True)

    assert page.status_code == 200
    assert "somebody@example.org" in page.text


def test_a_token_made_here_opens_the_api(platform):
    token = platform.run("token", "a script")["token"]

    answer = platform.client.http.get(
        "/jobs", headers={"Authorization": f"Bearer {token}"}
    )

    assert answer.status_code == 200


def test_what_is_deleted_is_gone(platform, dataset):
    platform.run("delete-model", "from cli:1", "--yes")
    platform.run("dataset", "delete", "by table", "--yes")

    assert "from cli" not in [
        row["name"] for row in platform.run("models") if row["latest"]
    ]
    assert "by table" not in [row["name"] for row in platform.run("dataset", "list")]
