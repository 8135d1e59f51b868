"""Kills trainers with `kill -9` and proves that nothing but time was lost.

Twenty jobs are killed once each, four in every phase, and one job is killed five times
in a row, twice before its first checkpoint. Each must end succeeded, with the very
weights of an uninterrupted run of the same spec (SHA-256 over all of them, CPU,
deterministic), with one model version, and having gone on from the newest checkpoint
that was durable when it died, so that no more is trained again than came after it.
Where each trainer really died is read from its log afterwards. Prints a table and the
seed; exits 1 when any of it does not hold.

    ./trainyard bench kill_resume [--seed S] [--jobs 20] [--json]
"""

import argparse
import hashlib
import io
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.live_platform import (
    ENDED,
    Platform,
    add_dataset,
    attempt_logs,
    forget_caches,
    read_events,
    wait_for,
)
from benchmarks.pictures import STRIPES_PER_CLASS, make_stripes_archive

PHASES = ("prepare", "frozen", "fine_tune", "evaluate", "export")
SPEC = {
    "preset": "fast",
    "overrides": {
        "base_model": "EfficientNetLite0",
        "image_size_px": 64,
        "batch_size": 16,
        "frozen_epochs": 12,
        "fine_tune_epochs": 2,
        "feature_views": 2,
        "early_stopping_patience": None,
        "checkpoint_every": {"steps": 3},
        "unfreeze_from": 0.8,
    },
}
CHECKPOINT_STEPS = 3
STEPS_PER_EPOCH = math.ceil(2 * STRIPES_PER_CLASS * 0.7 / 16)  # the spec's batches
# First step and steps of the phases that train.
STEPS = {
    "frozen": (0, 12 * STEPS_PER_EPOCH),
    "fine_tune": (12 * STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH),
}
# Only checkpoints and ends of epochs are in the log: a later point would be seen when
# the phase is over.
LATEST_SHARE = 0.8
DEADLINE_SECONDS = 600
# How long after its beginning a phase that counts no steps is killed, at most.
LONGEST_DELAY_SECONDS = {"prepare": 1.5, "evaluate": 0.4, "export": 1.5}
FIVE = "five in a row"


@dataclass
class Plan:
    """When one job's trainer is to die: at these points, in this order."""

    name: str
    kills: list[tuple[str, float]]  # (phase, share of the phase or seconds)
    job_id: int = 0
    redone: list[int] = field(default_factory=list)
    passed_over: int = 0  # kills after which a durable checkpoint was not gone on from
    died_in: list[str] = field(default_factory=list)
    # The last step on the disk, whole or not, by the log of the killed attempt.
    written: dict[Path, int] = field(default_factory=dict)
    without_checkpoint: int = 0  # kills before any attempt had saved anything

    @property
    def done_kills(self) -> int:
        """How many of the kills have been dealt."""
        return len(self.died_in)


def draw_plans(jobs: int, rng: random.Random) -> list[Plan]:
    """One plan per job, the phases in turn, and the job that dies five times."""
    plans = [
        Plan(f"{PHASES[n % 5]} #{n // 5 + 1}", [(PHASES[n % 5], rng.random())])
        for n in range(jobs)
    ]
    five = [
        ("prepare", rng.random()),
        ("prepare", rng.random()),
        ("frozen", rng.random()),
        ("fine_tune", rng.random()),
        ("evaluate", rng.random()),
    ]
    return [*plans, Plan(FIVE, five)]


def trainer_pids(job_id: int, folder: Path) -> list[int]:
    """Trainer processes of this job, found by the attempt's folder they stand in."""
    attempts = folder.resolve() / "storage" / "jobs" / str(job_id)
    programs = {"worker.training.run", "worker.training.standby"}
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        command = process.info["cmdline"] or []
        is_trainer = programs & set(command) and "worker.guardian" not in command
        cwd = process.info["cwd"]
        if is_trainer and cwd and Path(cwd).is_relative_to(attempts):
            found.append(process.info["pid"])
    return found


def last_step(events: list[dict]) -> int:
    """The last step this attempt is known to have trained."""
    return max((e["step"] for e in events if isinstance(e.get("step"), int)), default=0)


def is_due(events: list[dict], phase: str, share: float) -> bool:
    """Whether the attempt has come to the point where it is to die.

    In the training phases the point is a share of the phase's steps; in the others it
    is a share of `LONGEST_DELAY_SECONDS` after the phase began.
    """
    began = [e["at"] for e in events if e["event"] == "phase" and e["phase"] == phase]
    if not began:
        return False
    if phase not in STEPS:
        return time.time() >= began[-1] + LONGEST_DELAY_SECONDS[phase] * share
    first, steps = STEPS[phase]
    return last_step(events) >= first + LATEST_SHARE * share * steps


def drive(platform: Platform, plan: Plan) -> None:
    """Waits for one job to end, killing its trainer where the plan says."""
    end = time.monotonic() + DEADLINE_SECONDS * max(1, len(plan.kills))
    asked_at = 0.0
    while time.monotonic() < end:
        logs = attempt_logs(platform, plan.job_id)
        if logs and plan.done_kills < len(plan.kills) and logs[-1] not in plan.written:
            phase, share = plan.kills[plan.done_kills]
            if is_due(read_events(logs[-1]), phase, share):
                kill(platform, plan, logs)
        if time.monotonic() - asked_at > 1:
            asked_at = time.monotonic()
            if platform.job(plan.job_id)["state"] in ENDED:
                break
        time.sleep(0.02)
    plan.redone = steps_redone(plan, attempt_logs(platform, plan.job_id))


def kill(platform: Platform, plan: Plan, logs: list[Path]) -> None:
    """Kills the job's trainer and notes what its attempts had come to."""
    pids = trainer_pids(plan.job_id, platform.folder)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(psutil.pid_exists, pids)), 60, "the trainer's end")
    if not pids:
        return
    plan.written[logs[-1]] = max(steps_on_disk(logs[-1]), default=0)
    plan.without_checkpoint += not any(steps_on_disk(log) for log in logs)
    time.sleep(0.5)  # for what it had still said to reach the log
    events = read_events(logs[-1])
    plan.died_in.append([e["phase"] for e in events if e["event"] == "phase"][-1])


def steps_on_disk(log: Path) -> list[int]:
    """The steps of an attempt's checkpoints, those it was still writing among them."""
    names = [path.name for path in log.parent.glob("ckpt/*")]
    return [int(name.removeprefix(".tmp-").split("-")[0]) for name in names]


def steps_redone(plan: Plan, logs: list[Path]) -> list[int]:
    """How many steps were trained again after each kill, at most."""
    redone = []
    for killed, following in pairwise(logs):
        if killed in plan.written:
            reached = last_step_trained(read_events(killed), plan.written[killed])
            resumed = reported_steps(read_events(following), "resumed")
            redone.append(max(0, reached - max(resumed, default=0)))
            durable = reported_steps(read_events(killed), "checkpoint")
            if resumed and max(resumed) < max(durable, default=0):
                plan.passed_over += 1
    return redone


def last_step_trained(events: list[dict], written: int) -> int:
    """The last step a killed attempt can have trained.

    It may have died between writing a checkpoint and reporting it; else it was on its
    way to the next one, and the most that this can have been is assumed.
    """
    reported = max([0, *reported_steps(events, "checkpoint", "resumed")])
    if written > reported:
        return written
    phase = [e["phase"] for e in events if e["event"] == "phase"][-1]
    return reported + (CHECKPOINT_STEPS - 1 if phase in STEPS else 0)


def reported_steps(events: list[dict], *kinds: str) -> list[int]:
    """The steps that events of these kinds name."""
    return [event["step"] for event in events if event["event"] in kinds]


def weights_sha(platform: Platform, job: dict) -> str:
    """SHA-256 over the variables of the SavedModel that a user downloads."""
    answer = platform.http.get(f"/models/{job['model_name']}/versions/1/archive")
    digest = hashlib.sha256()
    with zipfile.ZipFile(io.BytesIO(answer.raise_for_status().content)) as archive:
        for name in sorted(archive.namelist()):
            if "/variables/variables.data" in name:
                digest.update(archive.read(name))
    return digest.hexdigest()


def submit(platform: Platform, dataset_id: int, model_name: str) -> int:
    """Submits one job and returns its number."""
    answer = platform.http.post(
        "/jobs",
        json={"datasets": [dataset_id], "specs": [SPEC], "model_name": model_name},
        headers={"Idempotency-Key": f"kill-resume-{model_name}"},
    ).raise_for_status()
    return answer.json()["jobs"][0]["id"]


def run(seed: int, jobs: int, folder: Path) -> dict:
    """Runs the whole campaign in `folder` and returns what happened."""
    archive = folder / "stripes.zip"
    make_stripes_archive(archive, seed)
    platform = Platform(folder)
    try:
        dataset_id = add_dataset(platform, archive)
        reference = Plan("uninterrupted", [])
        plans = [reference, *draw_plans(jobs, random.Random(seed))]
        for number, plan in enumerate(plans):
            forget_caches(platform)  # so that the prepare phase has work to lose
            plan.job_id = submit(platform, dataset_id, f"kill-{number}")
            drive(platform, plan)
            print(row_of(platform, plan), file=sys.stderr, flush=True)
        return summarise(platform, plans, seed)
    finally:
        platform.stop()


def row_of(platform: Platform, plan: Plan) -> dict:
    """What became of one job."""
    job = platform.job(plan.job_id)
    model = platform.http.get(f"/models/{job['model_name']}").json()
    return {
        "job": plan.name,
        "state": job["state"],
        "kills": plan.done_kills,
        "planned": len(plan.kills),
        "died_in": plan.died_in,
        "without_checkpoint": plan.without_checkpoint,
        "redone": max(plan.redone, default=0),
        "passed_over": plan.passed_over,
        "versions": len(model.get("all_versions", [])),
        "weights": weights_sha(platform, job) if job["state"] == "succeeded" else None,
    }


def summarise(platform: Platform, plans: list[Plan], seed: int) -> dict:
    """The table and the verdict."""
    rows = [row_of(platform, plan) for plan in plans]
    reference = rows[0]["weights"]
    failures = [
        row
        for row in rows
        if row["state"] != "succeeded"
        or row["weights"] != reference
        or row["versions"] != 1
        or row["passed_over"]
        or row["kills"] != row["planned"]
        or (row["job"] == FIVE and row["without_checkpoint"] < 2)  # noqa: PLR2004 - asked for
    ]
    hit = {phase for row in rows if row["job"] != FIVE for phase in row["died_in"]}
    missed = [phase for phase in PHASES if phase not in hit]
    return {"seed": seed, "rows": rows, "failures": failures, "missed": missed}


def print_table(result: dict) -> None:
    """Prints the campaign as a table."""
    line = "{:<14}{:<11}{:>7}{:>9}  {:<18}{}"
    print(line.format("job", "state", "redone", "versions", "weights", "died in"))
    for row in result["rows"]:
        sha = (row["weights"] or "-")[:16]
        places = ", ".join(row["died_in"])
        if row["without_checkpoint"]:
            places += f" ({row['without_checkpoint']} before the first checkpoint)"
        versions, redone = row["versions"], row["redone"]
        print(line.format(row["job"], row["state"], redone, versions, sha, places))
    if result["missed"]:
        print(f"No trainer died in: {', '.join(result['missed'])}.")
    print(f"seed {result['seed']}; {len(result['failures'])} failures")


def main() -> int:
    """Reads the arguments, runs the campaign, prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # So that whoever ends this ends the platform too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="kill-resume-") as folder:
        result = run(arguments.seed, arguments.jobs, Path(folder))
    if arguments.json:
        print(json.dumps(result))
    else:
        print_table(result)
    return 1 if result["failures"] or result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
