"""`submit`, `watch` and what can be asked of a job."""

import secrets
from datetime import datetime
from typing import Annotated, Any

import typer

from cli.options import Json
from cli.output import out, print_json, say

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
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", help="key=a,b,c: train every combination; repeatable."),
    ] = None,
    drawn: Annotated[
        list[str] | None,
        typer.Option(
            "--random", help="key=low:high[:log] or key=a,b: draw one; repeatable."
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option("--trials", min=1, help="Draws of each combination.")
    ] = 1,
    draw_seed: Annotated[int, typer.Option(help="Decides the draws.")] = 0,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Publish under this name, not the dataset's."),
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", help="The workers' queue to wait in.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", help="-100 to 100; higher goes first.")
    ] = None,
    gpu_memory: Annotated[
        int | None, typer.Option("--gpu-memory", help="MiB that its GPU must have.")
    ] = None,
    not_before: Annotated[
        datetime | None,
        typer.Option("--not-before", help="Start then at the earliest, local time."),
    ] = None,
    preemptible: Annotated[
        bool,
        typer.Option("--preemptible", help="More urgent jobs may interrupt it."),
    ] = False,
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
    from shared.assignments import parse_assignments, parse_grid, parse_random
    from shared.presets import DEFAULT_PRESET

    client = connect()
    sweep = {
        "grid": parse_grid(grid or []),
        "random": parse_random(drawn or []),
        "trials": trials,
        "seed": draw_seed,
    }
    specs = _list_specs(
        preset or [DEFAULT_PRESET],
        base_model or [],
        parse_assignments(assignments or []),
        sweep if grid or drawn else None,
    )
    submitted = client.submit(
        datasets=[client.find_dataset(name)["id"] for name in dataset],
        specs=specs,
        model_name=model,
        key=key or secrets.token_urlsafe(16),
        queue=queue,
        priority=priority,
        gpu_mem_mb=gpu_memory,
        not_before=not_before.astimezone().isoformat() if not_before else None,
        preemptible=preemptible or None,
    )
    _warn(submitted)
    numbers = [job["id"] for job in submitted["jobs"]]
    if not wait:
        if as_json:
            print_json(submitted)
        else:
            _tell_submitted(submitted)
        return
    jobs = watch.follow(client, numbers)
    if as_json:
        print_json({**submitted, "jobs": jobs})
    else:
        _show_ended(jobs)
    watch.require_succeeded(jobs)


def _list_specs(
    presets: list[str],
    base_models: list[str],
    overrides: dict[str, Any],
    sweep: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    """One wish for every preset with every base model; the preset's own if none."""
    specs: list[dict[str, Any]] = []
    for preset in presets:
        for base_model in base_models or [None]:
            named = {} if base_model is None else {"base_model": base_model}
            wish: dict[str, Any] = {"preset": preset, "overrides": overrides | named}
            specs.append(wish if sweep is None else wish | {"sweep": sweep})
    return specs


def _tell_submitted(submitted: dict[str, Any]) -> None:
    words = ", ".join(str(job["id"]) for job in submitted["jobs"])
    out.print(f"Submitted: job {words}. Follow with `trainyard watch`.")
    if len(submitted["jobs"]) > 1:
        key = submitted["group_key"]
        out.print(f"Compare them with `trainyard jobs compare {key}`.")


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
    out.print(f"Job {job}: {words}")


def _warn(submitted: dict[str, Any]) -> None:
    for warning in submitted.get("warnings", []):
        say(f"Warning: {warning}")


def _show_ended(jobs: list[dict[str, Any]]) -> None:
    from cli import watch

    for job in jobs:
        published = job.get("published")
        line = f"Job {job['id']} {job['title']}: {watch.describe(job)}"
        if published:
            line += f"; download with `trainyard download {published}`"
        say(line)
