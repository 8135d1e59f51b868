"""`jobs` and what is asked of several; `queues`, and pausing them."""

from typing import Annotated, Any

import typer

from cli.compare_command import compare
from cli.job_commands import JobNumber
from cli.options import Json
from cli.output import format_time, out, print_json, print_table
from shared.errors import UserError

app = typer.Typer()
jobs = typer.Typer(invoke_without_command=True)
app.add_typer(jobs, name="jobs")
jobs.command()(compare)
queues = typer.Typer(invoke_without_command=True)
app.add_typer(queues, name="queues")

Kind = Annotated[str | None, typer.Option("--kind", help="Only jobs of this kind.")]
QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="Its name.")]
PageNumber = Annotated[int, typer.Option("--page", min=1, help="From 1.")]


@jobs.callback()
def list_jobs(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Option("--state", help="Only jobs in this state.")
    ] = None,
    kind: Kind = None,
    page: PageNumber = 1,
    as_json: Json = False,
) -> None:
    """List jobs, the newest first; or steer those that wait."""
    from cli import watch
    from cli.api_client import connect

    if context.invoked_subcommand is not None:
        return
    found = connect().list_jobs(state=state, kind=kind, page=page)
    if as_json:
        print_json(found)
        return
    print_table(
        ["job", "kind", "title", "where it stands", "progress", "submitted"],
        [
            [
                job["id"],
                job["kind"],
                job["title"],
                watch.describe(job),
                _percentage(job),
                format_time(job["created_at"]),
            ]
            for job in found["items"]
        ],
    )


@jobs.command("waiting")
def list_waiting(
    kind: Kind = None, page: PageNumber = 1, as_json: Json = False
) -> None:
    """List the jobs that wait, the next one to start first."""
    from cli.api_client import connect

    found = connect().list_waiting(kind=kind, page=page)
    if as_json:
        print_json(found)
        return
    print_table(
        ["position", "job", "title", "owner", "priority", "queue", "starts", "ends"],
        [
            [
                job["position"],
                job["id"],
                job["title"],
                job["owner"],
                job["priority"],
                job["queue"],
                format_time(job["expected_start_at"]),
                format_time(job["expected_end_at"]),
            ]
            for job in found["items"]
        ],
    )


@jobs.command()
def move(
    job: JobNumber,
    before: Annotated[
        int | None, typer.Option("--before", help="Directly before this job.")
    ] = None,
    after: Annotated[
        int | None, typer.Option("--after", help="Directly after this job.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="first, up, down or last.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Move a waiting job in the queue; it takes its new neighbour's priority."""
    wish = {"before": before, "after": after, "to": to}
    wish = {name: value for name, value in wish.items() if value is not None}
    if len(wish) != 1:
        raise UserError("Say where: one of --before JOB, --after JOB and --to END.")
    _tell(job, "move", wish, as_json=as_json)


@jobs.command("priority")
def set_priority(
    job: JobNumber,
    priority: Annotated[int, typer.Argument(help="-100 to 100; higher goes first.")],
    as_json: Json = False,
) -> None:
    """Give a queued or paused job another priority."""
    _tell(job, "priority", {"priority": priority}, as_json=as_json)


@queues.callback()
def list_queues(context: typer.Context, as_json: Json = False) -> None:
    """List the queues and what is in them; or pause one."""
    from cli.api_client import connect

    if context.invoked_subcommand is not None:
        return
    found = connect().list_queues()
    if as_json:
        print_json(found)
        return
    print_table(
        ["queue", "waiting", "running", "paused jobs", "workers", "paused since"],
        [
            [
                row["name"],
                row["queued"],
                row["running"],
                row["paused"],
                row["workers"],
                format_time(row["paused_at"]),
            ]
            for row in found
        ],
    )


@queues.command("pause")
def pause_queue(
    queue: QueueName,
    running: Annotated[
        bool, typer.Option("--running", help="Ask its running jobs to stop, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start no more jobs from a queue."""
    _steer(
        "pause", f"No job is started from {queue} until it is resumed.",
        "saves its state and stops", as_json=as_json, queue=queue, running_too=running,
    )  # fmt: skip


@queues.command("resume")
def resume_queue(
    queue: QueueName,
    paused: Annotated[
        bool, typer.Option("--paused", help="Put its paused jobs back, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start jobs from a queue again."""
    _steer(
        "resume", f"Jobs are started from {queue} again.", "is back in the queue",
        as_json=as_json, queue=queue, paused_too=paused,
    )  # fmt: skip


def _steer(verb: str, told: str, of_jobs: str, *, as_json: bool, **body: Any) -> None:
    from cli.api_client import connect

    answer = connect().steer_queue(verb, **body)
    if as_json:
        print_json(answer)
        return
    out.print(told)
    for job in answer["jobs"]:
        out.print(f"Job {job} {of_jobs}.")


def _tell(job: int, verb: str, body: dict[str, Any], *, as_json: bool) -> None:
    from cli.api_client import connect

    answer = connect().ask(job, verb, **body)
    if as_json:
        print_json(answer)
        return
    words = f"Job {job} is {answer['state']}, with priority {answer['priority']}."
    out.print(words)


def _percentage(job: dict[str, Any]) -> str:
    total = job.get("progress_total") or 0
    if job["state"] != "running" or not total:
        return ""
    return f"{100 * (job.get('progress_done') or 0) / total:.0f} %"
