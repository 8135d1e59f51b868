"""Follows jobs until they end: a live bar each on a terminal, lines in a log."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
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
from rich.table import Column

from cli.api_client import ApiClient
from cli.output import err, say
from shared.errors import UserError
from shared.job_status import is_terminal
from shared.progress_words import say_progress

POLL_SECONDS = 1.0
LINE_SECONDS = 10.0  # between two lines about one phase of a job


def follow(client: ApiClient, job_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Shows the jobs' progress until every one has ended; returns them as they are."""
    jobs: dict[int, dict[str, Any]] = {}
    with _progress() as progress:
        bars = {number: progress.add_task(f"job {number}") for number in job_ids}
        told: dict[int, _Line] = {}
        while True:
            for number in job_ids:
                if not is_terminal(jobs.get(number, {}).get("state", "")):
                    jobs[number] = client.get_job(number)
                    _show(progress, bars[number], jobs[number])
                    if not err.is_terminal:
                        _tell(jobs[number], told)
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
    if job["state"] == "running" and (far := _say_how_far(job)):
        words.append(far)
    accuracy = (job.get("result") or {}).get("accuracy")
    if accuracy is not None:
        words.append(f"{accuracy:.1%} on the test split")
    return ", ".join(words)


def _say_how_far(job: dict[str, Any]) -> str:
    """The words of the job's page: how many of how many, how fast, how long yet."""
    return say_progress(
        job.get("progress_done") or 0,
        job.get("progress_total") or 0,
        job.get("progress_unit"),
        job.get("eta_seconds"),
    )


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        # In a narrow window its end, the time that is left, goes to a line of its own.
        TextColumn("{task.description}", markup=False, table_column=Column()),
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


@dataclass(frozen=True)
class _Line:
    """What was last told of a job, and when."""

    step: str
    words: str
    at: float


def _tell(job: dict[str, Any], told: dict[int, _Line]) -> None:
    """Writes a line for each phase, and now and then how far it is."""
    line = _Line(
        f"{job['state']} {job.get('phase') or ''}", describe(job), time.monotonic()
    )
    last = told.get(job["id"])
    if last is not None and line.step == last.step:
        is_early = line.at - last.at < LINE_SECONDS
        if is_early or line.words == last.words:
            return
    told[job["id"]] = line
    say(f"job {job['id']} {job['title']}: {line.words}")
