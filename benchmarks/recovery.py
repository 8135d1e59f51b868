"""Kills each process of a real platform and measures when training goes on.

A real `trainyard up`, settings as they come, trains one job per kind of kill. While it
fine-tunes, the named process gets `kill -9` (or is frozen, as a host that is gone), and
told are the seconds from then to the first step of the next attempt, and how many steps
were trained twice at most. A kill that does not touch the training makes no new
attempt; its seconds are those to the next epoch that ends, and epochs have few steps.
Exits 1 when a job does not succeed with one model version, or when a durable checkpoint
was passed over.

    ./trainyard bench recovery [--kinds trainer,guardian,...] [--rounds 3] [--json]
"""

import argparse
import json
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.live_platform import (
    ENDED,
    ROOT,
    Platform,
    add_dataset,
    attempt_logs,
    read_events,
    wait_for,
)
from benchmarks.pictures import make_stripes_archive
from shared.settings import Settings

CHECKPOINT_STEPS = 3
SPEC = {
    "preset": "fast",
    "overrides": {
        "base_model": "EfficientNetLite0",
        "image_size_px": 64,
        "batch_size": 16,
        "frozen_epochs": 1,
        "fine_tune_epochs": 60,
        "early_stopping_patience": None,
        "checkpoint_every": {"steps": CHECKPOINT_STEPS},
        "unfreeze_from": 0.8,
    },
}
EPOCHS_BEFORE_KILL = 3
NEXT_STEP_SECONDS = 240
JOB_SECONDS = 600
TRAINERS = {"worker.training.run", "worker.training.standby"}


class Victims:
    """Finds the processes of one platform by what they are.

    Args:
        platform: Whose.
        job_id: Of the job that trains.
    """

    def __init__(self, platform: Platform, job_id: int) -> None:
        self.platform = platform
        self.job_id = job_id

    def trainer(self) -> list[psutil.Process]:
        """The trainer of the job, by the attempt's folder that it stands in."""
        jobs = self.platform.folder.resolve() / "storage" / "jobs" / str(self.job_id)
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = set(process.cmdline())
                inside = Path(process.cwd()).is_relative_to(jobs)
                if inside and TRAINERS & command and "worker.guardian" not in command:
                    found.append(process)
        return found

    def guardian(self) -> list[psutil.Process]:
        """The trainer's guardian."""
        return [psutil.Process(trainer.ppid()) for trainer in self.trainer()]

    def worker(self) -> list[psutil.Process]:
        """The worker process over the guardian."""
        return [psutil.Process(guardian.ppid()) for guardian in self.guardian()]

    def host(self) -> list[psutil.Process]:
        """Worker, guardian and trainer."""
        return [*self.worker(), *self.guardian(), *self.trainer()]

    def named(self, *words: str) -> list[psutil.Process]:
        """Children of `up` whose command line holds all of `words`."""
        up = psutil.Process(self.platform.process.pid)
        return [
            child
            for child in up.children(recursive=True)
            if all(any(word in part for part in child.cmdline()) for word in words)
        ]

    def everything(self) -> list[psutil.Process]:
        """`up` and all below it, parents first."""
        up = psutil.Process(self.platform.process.pid)
        return [up, *up.children(recursive=True)]


KINDS: dict[str, Callable[[Victims], list[psutil.Process]]] = {
    "trainer": Victims.trainer,
    "guardian": Victims.guardian,
    "worker": Victims.worker,
    "worker, guardian and trainer": Victims.host,
    "web": lambda victims: victims.named("gunicorn"),
    "reconciler": lambda victims: victims.named("cli", "reconciler"),
    "broker": lambda victims: victims.named("valkey"),
    "everything, and up again": Victims.everything,
    "host frozen, another takes over": Victims.host,
}
FREEZE_TRIES = 50
FREEZE_PAUSE_SECONDS = 0.37  # no multiple of anything else's
UP_AGAIN = "everything, and up again"
FROZEN = "host frozen, another takes over"


def measure(kind: str, folder: Path, archive: Path, number: int) -> dict[str, Any]:
    """Runs one job on a platform of its own and deals it one kill."""
    folder.mkdir()
    platform = Platform(folder)
    other = None
    try:
        dataset_id = add_dataset(platform, archive)
        job_id = submit(platform, dataset_id, f"recovery-{number}")
        epochs_trained(platform, job_id, EPOCHS_BEFORE_KILL)
        victims = KINDS[kind](Victims(platform, job_id))
        if not victims:
            raise SystemExit(f"There is no such process to kill: {kind}.")
        if kind == FROZEN:
            other = start_other_worker(platform)
            freeze(victims, folder / "trainyard.sqlite")
        killed_at = time.time()
        if kind != FROZEN:
            strike(victims, signal.SIGKILL)
        if kind == UP_AGAIN:
            platform.process.wait()
            platform = Platform(folder)
        following = next_step(platform, job_id, killed_at)
        if kind == FROZEN:
            strike(victims, signal.SIGCONT)
        return weigh(platform, job_id, kind, killed_at, following)
    finally:
        if other:
            other.terminate()
            other.wait(60)
        platform.stop()


def submit(platform: Platform, dataset_id: int, model_name: str) -> int:
    """Submits the job and returns its number."""
    answer = platform.http.post(
        "/jobs",
        json={"datasets": [dataset_id], "specs": [SPEC], "model_name": model_name},
        headers={"Idempotency-Key": model_name},
    ).raise_for_status()
    return answer.json()["jobs"][0]["id"]


def epochs_trained(platform: Platform, job_id: int, count: int) -> None:
    """Returns once the job has fine-tuned `count` epochs."""
    wait_for(
        lambda: len(epochs(platform, job_id)) >= count, JOB_SECONDS, "the training"
    )


def epochs(platform: Platform, job_id: int) -> list[dict[str, Any]]:
    """The ends of the job's fine-tuned epochs, of all attempts, oldest first."""
    told = [e for log in attempt_logs(platform, job_id) for e in read_events(log)]
    return [e for e in told if e["event"] == "metrics" and e["phase"] == "fine_tune"]


def start_other_worker(platform: Platform) -> subprocess.Popen[bytes]:
    """Starts a worker as of another host: with slots of its own."""
    runtime = platform.folder / "other-host"
    environment = platform.env | {
        "TRAINYARD_RUNTIME_DIR": str(runtime),
        "TRAINYARD_REDIS_URL": Settings(data_dir=platform.folder).broker_address,
    }
    with (platform.folder / "other.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "worker.run", "--slot", "cpu"],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )


def strike(victims: list[psutil.Process], number: int) -> None:
    """Sends the signal to each of them that is still there."""
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.send_signal(number)


def freeze(victims: list[psutil.Process], records: Path) -> None:
    """Stops them all, at a moment at which none of them holds SQLite's lock.

    Who does would hold up everybody else, as docs/reliability.md says.
    """
    for _ in range(FREEZE_TRIES):
        strike(victims, signal.SIGSTOP)
        if not is_locked(records):
            return
        strike(victims, signal.SIGCONT)
        time.sleep(FREEZE_PAUSE_SECONDS)
    raise SystemExit("It always held the lock when it was to be frozen.")


def is_locked(records: Path) -> bool:
    """Whether somebody keeps others from writing for longer than a write takes."""
    with closing(sqlite3.connect(records, timeout=1, isolation_level=None)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        database.execute("ROLLBACK")
    return False


def next_step(platform: Platform, job_id: int, since: float) -> dict[str, Any]:
    """Returns what first tells, after `since`, that the job trains."""

    def find() -> list[dict[str, Any]]:
        told = [e for log in attempt_logs(platform, job_id) for e in read_events(log)]
        return [e for e in told if e["at"] > since and is_step(e)]

    wait_for(find, NEXT_STEP_SECONDS, "the next step")
    return min(find(), key=lambda event: event["at"])


def is_step(event: dict[str, Any]) -> bool:
    """Whether the event is the end of an epoch, or of an attempt's first step."""
    return event["event"] == "metrics" or event.get("name") == "first step"


def weigh(
    platform: Platform,
    job_id: int,
    kind: str,
    killed_at: float,
    following: dict[str, Any],
) -> dict[str, Any]:
    """Waits for the job's end and returns what the kill cost."""
    wait_for(
        lambda: platform.job(job_id)["state"] in ENDED, JOB_SECONDS, "the job's end"
    )
    job = platform.job(job_id)
    logs = [read_events(log) for log in attempt_logs(platform, job_id)]
    resumed = [e["step"] for log in logs[1:] for e in log if e["event"] == "resumed"]
    durable = [e["step"] for e in logs[0] if e["event"] == "checkpoint"]
    trained = [e["step"] for e in logs[0] if e["event"] in {"checkpoint", "metrics"}]
    redone = 0
    if len(logs) > 1:
        reached = max(trained, default=0) + CHECKPOINT_STEPS - 1
        redone = max(0, reached - max(resumed, default=0))
    model = platform.http.get(f"/models/{job['model_name']}").json()
    return {
        "kind": kind,
        "state": job["state"],
        "attempts": len(logs),
        "versions": len(model.get("all_versions", [])),
        "seconds_to_next_step": round(following["at"] - killed_at, 2),
        "steps_redone": redone,
        "passed_over": bool(resumed) and max(resumed) < max(durable, default=0),
    }


def summarise(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians of each kind, and what did not hold."""
    kinds = dict.fromkeys(cell["kind"] for cell in cells)
    by_kind = {}
    for kind in kinds:
        mine = [cell for cell in cells if cell["kind"] == kind]
        seconds = [cell["seconds_to_next_step"] for cell in mine]
        by_kind[kind] = {
            "attempts": statistics.median(cell["attempts"] for cell in mine),
            "seconds_to_next_step": round(statistics.median(seconds), 1),
            "longest_seconds": max(seconds),
            "steps_redone": max(cell["steps_redone"] for cell in mine),
        }
    failures = [
        cell
        for cell in cells
        if cell["state"] != "succeeded" or cell["versions"] != 1 or cell["passed_over"]
    ]
    return {"by_kind": by_kind, "cells": cells, "failures": failures}


def print_table(result: dict[str, Any]) -> None:
    """Prints one line for each kind of kill."""
    line = "{:<34}{:>10}{:>22}{:>10}{:>14}"
    print(line.format("killed", "attempts", "s to the next step", "longest", "redone"))
    for kind, row in result["by_kind"].items():
        print(line.format(kind, *row.values()))
    print(f"{len(result['failures'])} failures")


def main() -> int:
    """Reads the arguments, kills, prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kinds", help=f"of: {'; '.join(KINDS)}, joined by ;")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(";") if arguments.kinds else list(KINDS)
    # So that whoever ends this ends the platforms too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cells = []
    with tempfile.TemporaryDirectory(prefix="recovery-") as name:
        folder = Path(name)
        make_stripes_archive(folder / "stripes.zip", 1)
        for number, kind in enumerate(kinds * arguments.rounds):
            place = folder / str(number)
            cells.append(measure(kind, place, folder / "stripes.zip", number))
            print(cells[-1], file=sys.stderr, flush=True)
    result = summarise(cells)
    if arguments.json:
        print(json.dumps(result))
    else:
        print_table(result)
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
