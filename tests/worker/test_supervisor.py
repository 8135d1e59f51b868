"""One attempt under the supervisor: a real guardian, a real child, a real database."""

import contextlib
import hashlib
import json
import subprocess
import threading
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from shared import attempt_store
from shared.artifacts import verify_manifest
from shared.child_environment import environment_without_credentials
from tests.worker.processes import ROOT, is_running, wait_until
from tests.worker.supervised import fault, find_trainers
from tests.worker.workshop import TOY_COMMANDS
from worker import child, slots


def resources():
    """What this process holds for attempts: pipes, locks, logs, children, threads.

    Connections of the database's pool come and go as they like.
    """
    held = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            held.append(str(link.readlink()))
    mine = [name for name in held if name.startswith("pipe:") or "/attempts/" in name]
    locks = [name for name in held if name.endswith(".lock")]
    threads = [t for t in threading.enumerate() if t.name == "lease"]
    children = psutil.Process().children(recursive=True)
    return len(mine), len(locks), len(children), len(threads)


class TestSuccess:
    def test_job_is_published_once_with_its_curves_and_files(self, shop):
        job_id = shop.submit(steps=20, step_seconds=0)
        claim = shop.run_one()

        job = shop.job(job_id)
        (version,) = shop.versions(job_id)
        assert (job.state, job.last_step, version.version) == ("succeeded", 20, 1)
        assert job.result["accuracy"] == 0.9
        losses = [m for m in shop.metrics(job_id) if m.name == "loss"]
        assert [m.step for m in losses] == list(range(1, 21))
        assert {"saved_model.zip", "evaluation.json", "model_card.md"} == set(
            version.files
        )
        archive = shop.storage.artifact(version.artifact_sha)
        assert archive.stat().st_size == version.artifact_bytes
        lines = (shop.folder(claim) / "log.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["event"] == "finished"

    def test_child_gets_no_credentials_and_its_slots_devices(self, shop, monkeypatch):
        for name in ("TRAINYARD_DATABASE_URL", "REDIS_URL", "MY_SECRET", "PGPASSWORD"):
            monkeypatch.setenv(name, "hidden")
        shop.submit(steps=1, faults=[fault(0, "tell_environment")])
        claim = shop.run_one()

        text = (shop.folder(claim) / "environment.json").read_text()
        assert "hidden" not in text
        environment = json.loads(text)
        assert environment["CUDA_VISIBLE_DEVICES"] == "-1"
        assert environment["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"

    def test_garbage_on_the_event_pipe_harms_nobody(self, shop):
        job_id = shop.submit(steps=5, step_seconds=0, faults=[fault(2, "babble")])
        shop.run_one()

        assert shop.job(job_id).state == "succeeded"

    def test_spec_names_every_path_in_full(self, shop):
        shop.submit(steps=1)
        claim = shop.run_one()

        spec = json.loads((shop.folder(claim) / "spec.json").read_text())
        assert spec["dataset"] == str(shop.storage.root / "datasets/1/1")
        assert spec["caches"] == str(shop.storage.root)
        assert spec["resume_from"] == []
        assert spec["job"]["id"] == claim.job_id

    def test_spec_tells_how_often_the_kernel_ended_the_job_for_its_memory(self, shop):
        shop.submit(steps=1)
        for _ in range(2):
            claim = shop.claim()
            with shop.database.transaction() as session:
                attempt_store.record_progress(
                    session, claim.job_id, claim.fence, phase="fine_tune", done=1,
                    total=2, unit="steps",
                )  # fmt: skip
                attempt_store.end(
                    session, claim.job_id, claim.fence, outcome="oom", charge=True,
                    backoff_ms=0,
                )  # fmt: skip
        claim = shop.run_one()

        spec = json.loads((shop.folder(claim) / "spec.json").read_text())
        assert spec["memory_kills"] == 2

    def test_daemon_of_the_child_does_not_survive_the_attempt(self, shop):
        shop.submit(steps=1, faults=[fault(0, "leave_daemon")])
        claim = shop.run_one()

        assert not is_running(int((shop.folder(claim) / "daemon").read_text()))


class TestEndings:
    @pytest.mark.parametrize(
        ("do", "state", "outcome", "charged"),
        [
            (fault(3, "kill"), "queued", "killed", False),
            (fault(3, "crash"), "queued", "crash", True),
            (fault(3, "exit", code_number=69, message="It is away."), "queued",
             "outage", False),
            (fault(3, "exit", code_number=70, message="It broke."), "queued",
             "failed", True),
            (fault(3, "exit", code_number=74, message="Disk full."), "queued",
             "io", False),
            (fault(3, "exit", code_number=75), "queued", "killed", False),
            (fault(3, "exit", code_number=64, message="Bad spec."), "failed",
             "rejected", False),
            (fault(3, "exit", code_number=71, message="GPU too small."), "failed",
             "gpu_oom", False),
            (fault(3, "exit", code_number=0), "queued", "no_result", True),
            (fault(3, "exit", code_number=1), "queued", "crash", True),
        ],
    )  # fmt: skip
    def test_end_of_the_child_decides_what_the_record_says(
        self, shop, do, state, outcome, charged
    ):
        job_id = shop.submit(steps=10, step_seconds=0, faults=[do])
        shop.run_one()

        (attempt,) = shop.attempts(job_id)
        assert (shop.job(job_id).state, attempt.outcome) == (state, outcome)
        assert attempt.charged is charged
        assert shop.job(job_id).reason.endswith(do.get("message", ""))

    def test_failure_keeps_the_end_of_the_output(self, shop):
        job_id = shop.submit(faults=[fault(0, "exit", code_number=70, message="Oh.")])
        shop.run_one()

        (attempt,) = shop.attempts(job_id)
        assert "Traceback: the toy broke" in attempt.error_tail
        assert attempt.exit_code == 70

    def test_poison_job_fails_after_three_attempts(self, shop):
        job_id = shop.submit(faults=[fault(0, "crash")])
        while claim := shop.claim():
            shop.run_one(claim)

        assert shop.job(job_id).state == "failed"
        assert len(shop.attempts(job_id)) == 3

    def test_lasting_file_error_fails_the_job_with_its_sentence(self, shop):
        broken = fault(0, "exit", code_number=74, message="A file failed: /data/x.")
        job_id = shop.submit(faults=[broken])
        while claim := shop.claim():
            shop.run_one(claim)

        assert shop.job(job_id).state == "failed"
        assert len(shop.attempts(job_id)) == 5
        assert shop.job(job_id).reason.startswith("A file failed: /data/x. 5 attempts")

    def test_silent_child_is_ended_as_stalled(self, shop):
        shop.settings = shop.settings.model_copy(
            update={"progress_timeout_seconds": 0.7}
        )
        job_id = shop.submit(faults=[fault(3, "hang_hard")])
        claim = shop.run_one()

        (attempt,) = shop.attempts(job_id)
        assert (attempt.outcome, attempt.signal) == ("stalled", 9)
        assert "no progress for 0.7 seconds" in shop.job(job_id).reason
        assert (shop.folder(claim) / "stderr.log").exists()

    def test_missing_dataset_version_fails_the_job_with_a_sentence(self, shop):
        job_id = shop.submit()
        claim = shop.claim()
        claim = type(claim)(**{**vars(claim), "dataset_version_id": 99})
        shop.run_one(claim)

        assert shop.job(job_id).state == "failed"
        assert "dataset version" in shop.job(job_id).reason

    def test_error_of_the_worker_itself_ends_the_attempt_and_the_child(self, shop):
        job_id = shop.submit(steps=1000)
        commands = {"train": ("/no/such/program",)}
        shop.run_one(commands=commands)

        assert shop.attempts(job_id)[0].outcome == "crash"
        shop.run_one(commands={})
        assert shop.attempts(job_id)[1].outcome == "worker_error"
        assert find_trainers() == []

    def test_event_that_the_database_refuses_does_not_leave_the_job_running(self, shop):
        job_id = shop.submit(steps=1000)
        with shop.database.transaction() as session:
            session.execute(
                text(
                    "CREATE TRIGGER refuse BEFORE INSERT ON notes "
                    "BEGIN SELECT RAISE(ABORT, 'refused'); END"
                )
            )
        shop.run_one()

        assert shop.job(job_id).state == "queued"
        assert shop.attempts(job_id)[0].outcome == "worker_error"
        assert find_trainers() == []

    def test_attempt_that_cannot_be_started_leaves_no_descriptor_open(self, shop):
        job_id = shop.submit()
        shop.claim()
        lock = slots.acquire(
            shop.settings.runtime, shop.workplace().slot, grace_seconds=1
        )
        before = resources()
        with pytest.raises(FileNotFoundError):
            child.start(
                ["true"],
                folder=shop.storage.job(job_id) / "missing",
                environment={},
                lock=lock,
                lease_seconds=1,
                grace_seconds=1,
            )

        assert resources() == before
        lock.release()

    def test_ten_attempts_leave_no_descriptor_process_or_thread(self, shop):
        commands = {"train": ("/bin/false",)}
        before = resources()
        for _ in range(10):
            shop.submit()
            shop.run_one(commands=commands)

        wait_until(lambda: resources() == before, what="everything to be given back")


class TestResume:
    def test_killed_job_goes_on_and_ends_bit_identical(self, shop):
        straight = shop.submit(steps=20, step_seconds=0)
        shop.run_one()
        killed = shop.submit(
            steps=20,
            step_seconds=0,
            faults=[
                fault(2, "kill", fences=[1]),
                fault(8, "kill", fences=[2]),
                fault(19, "crash", fences=[3]),
            ],
        )
        while claim := shop.claim():
            shop.run_one(claim)

        assert [a.start_step for a in shop.attempts(killed)] == [0, 0, 5, 15]
        assert shop.job(killed).state == "succeeded"
        assert shop.weights(killed) == shop.weights(straight)

    def test_spoilt_checkpoint_is_passed_over_and_said_so(self, shop):
        faults = [fault(12, "spoil", fences=[1]), fault(12, "kill", fences=[1])]
        job_id = shop.submit(steps=20, step_seconds=0, faults=faults)
        shop.run_one()
        shop.run_one()

        assert shop.attempts(job_id)[1].start_step == 5
        assert shop.job(job_id).state == "succeeded"
        assert "corrupt" in {c.status for c in shop.checkpoints(job_id)}
        assert any("damaged" in note for note in shop.notes(job_id))

    def test_finished_result_is_published_without_training_again(self, shop):
        job_id = shop.submit(steps=5, step_seconds=0)
        first = self._finish_without_supervisor(shop)
        second = shop.run_one()

        assert shop.job(job_id).state == "succeeded"
        assert first.fence < second.fence
        assert not (shop.folder(second) / "spec.json").exists()

    def test_spoilt_result_is_computed_again(self, shop):
        job_id = shop.submit(steps=5, step_seconds=0)
        first = self._finish_without_supervisor(shop)
        (shop.folder(first) / "final" / "saved_model.zip").write_bytes(b"spoilt")
        second = shop.run_one()

        assert shop.job(job_id).state == "succeeded"
        assert (shop.folder(second) / "spec.json").exists()
        assert any("result cannot be used" in note for note in shop.notes(job_id))

    def test_crash_after_the_result_is_no_failure(self, shop):
        job_id = shop.submit(
            steps=5, step_seconds=0, faults=[fault("finished", "crash")]
        )
        shop.run_one()

        assert shop.job(job_id).state == "succeeded"
        assert len(shop.attempts(job_id)) == 1

    def test_child_that_will_not_leave_after_its_result_is_no_failure(self, shop):
        job_id = shop.submit(
            steps=5, step_seconds=0, faults=[fault("finished", "hang_hard")]
        )
        shop.run_one()

        assert shop.job(job_id).state == "succeeded"
        assert find_trainers() == []

    def _finish_without_supervisor(self, shop):
        """What a worker leaves that is killed before it publishes."""
        claim = shop.claim()
        plan = {"training": claim.spec["training"], "resume_from": [],
                "job": {"fence": claim.fence}}  # fmt: skip
        folder = shop.folder(claim)
        folder.mkdir(parents=True)
        (folder / "toy.json").write_text(json.dumps(plan))
        command = [*TOY_COMMANDS["train"], str(folder / "toy.json"), str(folder)]
        subprocess.run(command, cwd=ROOT, env=environment_without_credentials(
            PYTHONPATH=str(ROOT)), capture_output=True, check=True)  # fmt: skip
        with shop.database.transaction() as session:
            attempt_store.register_checkpoint(
                session, claim.job_id, claim.fence, step=5, kind="final",
                rel_path=shop.storage.relative(folder / "final"),
                manifest_sha=verify_sha(folder / "final"), size_bytes=1,
            )  # fmt: skip
            attempt_store.end(
                session, claim.job_id, claim.fence, outcome="lost", charge=False
            )
        return claim


def verify_sha(folder):
    verify_manifest(folder)
    return hashlib.sha256((folder / "MANIFEST.json").read_bytes()).hexdigest()
