"""Measures how soon a job begins: from the claim to the first step, stage by stage.

A real `trainyard up`, and jobs sent through its API. Two starts, each with a trainer
that stands by and without one: to the first step of the frozen phase with the features
cached, and to the first decoded image with no cache at all. The times are read from the
attempts' logs. Prints a table. Exits 1 when a trainer that stands by takes a second or
more for either (median).

    ./trainyard bench start [--data PATH] [--runs 3] [--json]
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
import zipfile
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
from benchmarks.pictures import TRASHNET, make_stripes_archive

STARTS = {"first step": "with cached features", "first image": "without any cache"}
DEADLINE_SECONDS = 900
MOST_SECONDS = 1.0


def main() -> int:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, help="zip or folder of class folders")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # So that whoever ends this ends the platform too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = []
    for stands_by in (True, False):
        with tempfile.TemporaryDirectory(prefix="start-") as folder:
            rows += measure(
                Path(folder), arguments.data, arguments.runs, stands_by=stands_by
            )
    if arguments.json:
        print(json.dumps({"rows": rows, "runs": arguments.runs}))
    else:
        print_table(rows)
    wholes = [row["seconds"]["whole"] for row in rows if row["standby"]]
    return int(max(wholes) >= MOST_SECONDS)


def measure(
    folder: Path, data: Path | None, runs: int, *, stands_by: bool
) -> list[dict]:
    """Runs one platform and both starts on it."""
    archive = pack_archive(folder, data)
    platform = Platform(
        folder, TRAINYARD_STANDBY_TRAINER="true" if stands_by else "false"
    )
    try:
        dataset_id = add_dataset(platform, archive)
        # The first job fills the caches.
        run_job(platform, dataset_id, "first step", stands_by=stands_by)
        return [
            summarise(
                stage,
                [
                    run_job(platform, dataset_id, stage, stands_by=stands_by)
                    for _ in range(runs)
                ],
                stands_by=stands_by,
            )
            for stage in STARTS
        ]
    finally:
        platform.stop()


def pack_archive(folder: Path, data: Path | None) -> Path:
    """Returns a zip of the pictures: the data named, else TrashNet, else stripes."""
    source = data or (TRASHNET if TRASHNET.exists() else None)
    if source and source.is_file():
        return source
    archive = folder / "pictures.zip"
    if source is None:
        make_stripes_archive(archive, seed=1)
        return archive
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(source))
    return archive


def run_job(
    platform: Platform, dataset_id: int, stage: str, *, stands_by: bool
) -> dict[str, float]:
    """Submits a job and returns the seconds of each stage up to `stage`."""
    if stands_by:
        wait_for(lambda: is_ready(platform.folder), 300, "the standby trainer")
    if stage == "first image":
        forget_caches(platform)
    answer = platform.http.post(
        "/jobs",
        json={
            "datasets": [dataset_id],
            "specs": [{"preset": "fast", "overrides": {"frozen_epochs": 1,
                                                       "fine_tune_epochs": 0}}],
            "model_name": "start",
        },
    ).raise_for_status()  # fmt: skip
    job_id = answer.json()["jobs"][0]["id"]
    wait_for(
        lambda: platform.job(job_id)["state"] in ENDED, DEADLINE_SECONDS, "the job"
    )
    state = platform.job(job_id)["state"]
    if state != "succeeded":
        raise RuntimeError(f"job {job_id} ended {state}")
    return read_stages(attempt_logs(platform, job_id)[0], stage)


def is_ready(folder: Path) -> bool:
    """Whether a trainer stands by that has nothing left to import: it is at rest."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command, cwd = process.info["cmdline"] or [], process.info["cwd"]
        if "worker.training.standby" not in command or "worker.guardian" in command:
            continue
        if cwd and Path(cwd).is_relative_to(folder.resolve() / "run"):
            has_imported = process.cpu_times().user > 1
            return has_imported and process.cpu_percent(interval=1.0) < 1
    return False


def read_stages(log: Path, last: str) -> dict[str, float]:
    """Seconds from each stage to the next, and from the claim to `last`."""
    marks = []
    for event in read_events(log):
        if event["event"] in ("claimed", "began", "stage"):
            marks.append((event.get("name", event["event"]), event["at"]))
            if marks[-1][0] == last:
                break
    if not marks or marks[-1][0] != last:
        raise RuntimeError(f"{log} never came to the {last}")
    seconds = {name: at - before for (_, before), (name, at) in pairwise(marks)}
    return {"whole": marks[-1][1] - marks[0][1], **seconds}


def summarise(stage: str, measured: list[dict], *, stands_by: bool) -> dict:
    """The median of each stage over the runs, and every whole."""
    names = {name: None for run in measured for name in run}
    medians = {
        name: round(statistics.median(run.get(name, 0.0) for run in measured), 3)
        for name in names
    }
    return {
        "start": stage,
        "standby": stands_by,
        "seconds": medians,
        "wholes": [round(run["whole"], 3) for run in measured],
    }


def print_table(rows: list[dict]) -> None:
    """Prints one line per start, then its stages."""
    for row in rows:
        who = "standby" if row["standby"] else "fresh"
        stages = dict(row["seconds"])
        whole = stages.pop("whole")
        bar = f" (under {MOST_SECONDS:g})" if row["standby"] else ""
        print(f"{row['start']} {STARTS[row['start']]}, {who}: {whole:.2f} s{bar}")
        print(
            "   " + ", ".join(f"{name} {value:.2f}" for name, value in stages.items())
        )


if __name__ == "__main__":
    sys.exit(main())
