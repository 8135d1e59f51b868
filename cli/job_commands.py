"""`submit`, `jobs`, `watch` and what can be asked of a job."""

import secrets
from typing import Annotated, Any

import typer

from cli.options import Json
from cli.output import format_time, out, print_json, print_table, say

app = typer.Typer()
JobNumber = Annotated[int, typer.Argument(metavar="JOB", help="The job's number.")]


@app.command()
def submit(
    dataset: Annotated[
        list[str], typer.Option("--dataset", "-d", help="Name or number; repeatable.")
    ],
    preset: Annotated[
        list[str] | None,
        typer.Option("--preset", "-p", help="fast, balanced or best; repeatable."),
    ] = None,
    base_model: Annotated[
        list[str] | None,
        typer.Option("--base-model", "-b", help="Base model; repeatable."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value of the training spec; repeatable."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Publish under this name, not the dataset's."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="Idempotency key: the same makes no second job."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the jobs until they end.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Submit one job for each dataset, preset and base model named."""
    from cli import watch
    from cli.api_client import connect
    from shared.assignments import parse_assignments
    from shared.presets import DEFAULT_PRESET

    client = connect()
    overrides = parse_assignments(assignments or [])
    specs: list[dict[str, Any]] = []
    for name in preset or [DEFAULT_PRESET]:
        for network in base_model or [None]:
            spec: dict[str, Any] = {**overrides}
            if network is not None:
                spec["base_model"] = network
            specs.append({"preset": name, "overrides": spec})
    submitted = client.submit(
        datasets=[client.find_dataset(name)["id"] for name in dataset],
        specs=specs,
        model_name=model,
        key=key or secrets.token_urlsafe(16),
    )
    numbers = [job["id"] for job in submitted["jobs"]]
    if not wait:
        if as_json:
            print_json(submitted)
        else:
            words = ", ".join(str(number) for number in numbers)
            out.print(f"Submitted: job {words}. Follow with `trainyard watch`.")
        return
    jobs = watch.follow(client, numbers)
    if as_json:
        print_json({**submitted, "jobs": jobs})
    else:
        _show_ended(jobs)
    watch.require_succeeded(jobs)


@app.command("jobs")
def list_jobs(
    state: Annotated[
        str | None, typer.Option("--state", help="Only jobs in this state.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only jobs of this kind.")
    ] = None,
    page: Annotated[int, typer.Option("--page", min=1, help="From 1.")] = 1,
    as_json: Json = False,
) -> None:
    """List jobs, the newest first."""
    from cli import watch
    from cli.api_client import connect

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


@app.command("watch")
def follow(
    jobs: Annotated[list[int], typer.Argument(metavar="JOB...", help="Job numbers.")],
    as_json: Json = False,
) -> None:
    """Follow jobs until they end."""
    from cli import watch
    from cli.api_client import connect

    ended = watch.follow(connect(), jobs)
    if as_json:
        print_json(ended)
    else:
        _show_ended(ended)
    watch.require_succeeded(ended)


@app.command()
def cancel(job: JobNumber, as_json: Json = False) -> None:
    """Stop a job; nothing is published."""
    _ask(job, "cancel", as_json=as_json)


@app.command()
def pause(job: JobNumber, as_json: Json = False) -> None:
    """Save a job's state and free its worker until it is resumed."""
    _ask(job, "pause", as_json=as_json)


@app.command()
def resume(job: JobNumber, as_json: Json = False) -> None:
    """Put a paused job back in the queue; it goes on where it was."""
    _ask(job, "resume", as_json=as_json)


@app.command()
def finish(job: JobNumber, as_json: Json = False) -> None:
    """Stop training now, and publish the best so far."""
    _ask(job, "finish", as_json=as_json)


@app.command()
def retry(
    job: JobNumber,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Forget its checkpoints.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Queue a failed or cancelled job again, from its newest checkpoint."""
    _ask(job, "retry", as_json=as_json, from_scratch=from_scratch)


def _ask(job: int, verb: str, *, as_json: bool, **body: Any) -> None:
    from cli import watch
    from cli.api_client import connect

    answer = connect().ask(job, verb, **body)
    if as_json:
        print_json(answer)
        return
    wish = answer.get("desired")
    words = watch.describe(answer)
    if answer["state"] == "running" and wish and wish != "run":
        words += f" (to {wish} at its next heartbeat)"
    out.print(f"Job {job}: {words}", markup=False)


def _show_ended(jobs: list[dict[str, Any]]) -> None:
    from cli import watch

    for job in jobs:
        published = job.get("published")
        line = f"Job {job['id']} {job['title']}: {watch.describe(job)}"
        if published:
            line += f"; download with `trainyard download {published}`"
        say(line)


def _percentage(job: dict[str, Any]) -> str:
    total = job.get("progress_total") or 0
    if job["state"] != "running" or not total:
        return ""
    return f"{100 * (job.get('progress_done') or 0) / total:.0f} %"
