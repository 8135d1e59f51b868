"""Follows jobs until they end: a live bar each on a terminal, lines in a log."""

import time
from collections.abc import Sequence
from typing import Any

from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from cli.api_client import ApiClient
from cli.output import err, format_duration, say
from shared.errors import UserError
from shared.job_status import is_terminal

POLL_SECONDS = 1.0


def follow(client: ApiClient, job_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Shows the jobs' progress until every one has ended; returns them as they are."""
    jobs: dict[int, dict[str, Any]] = {}
    with _progress() as progress:
        bars = {number: progress.add_task(f"job {number}") for number in job_ids}
        told: dict[int, str] = {}
        while True:
            for number in job_ids:
                if not is_terminal(jobs.get(number, {}).get("state", "")):
                    jobs[number] = client.get_job(number)
                    _show(progress, bars[number], jobs[number])
                    _tell(jobs[number], told, terminal=err.is_terminal)
            if all(is_terminal(job["state"]) for job in jobs.values()):
                return [jobs[number] for number in job_ids]
            time.sleep(POLL_SECONDS)


def require_succeeded(jobs: Sequence[dict[str, Any]]) -> None:
    """Raises `UserError` naming each job that did not succeed, and why."""
    sentences = [
        f"Job {job['id']} ({job['title']}) {job['state']}: "
        f"{job.get('reason') or 'no reason was recorded'}"
        for job in jobs
        if job["state"] != "succeeded"
    ]
    if sentences:
        raise UserError("\n".join(sentences))


def describe(job: dict[str, Any]) -> str:
    """Says in a few words where a job stands."""
    words = [str(job["state"])]
    if job["state"] == "running" and job.get("phase"):
        words = [str(job["phase"]).replace("_", " ")]
    if job["state"] == "running" and job.get("eta_seconds"):
        words.append(f"{format_duration(job['eta_seconds'])} left")
    accuracy = (job.get("result") or {}).get("accuracy")
    if accuracy is not None:
        words.append(f"{accuracy:.1%} on the test split")
    return ", ".join(words)


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=err,
    )


def _show(progress: Progress, bar: TaskID, job: dict[str, Any]) -> None:
    done, total = job.get("progress_done") or 0, job.get("progress_total") or 0
    if is_terminal(job["state"]):
        done = total = total or 1
    text = f"{job['title']}: {describe(job)}"
    progress.update(bar, description=text, completed=done, total=total or None)


def _tell(job: dict[str, Any], told: dict[int, str], *, terminal: bool) -> None:
    """Writes a line for each new phase where no bar can be drawn."""
    text = f"{job['state']} {job.get('phase') or ''}"
    if terminal or told.get(job["id"]) == text:
        return
    told[job["id"]] = text
    say(f"job {job['id']} {job['title']}: {describe(job)}")
