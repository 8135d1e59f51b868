"""`worker`: runs the workers of a machine; `status`, `drain` and `readmit` of them.

The last three work on the records, so that they answer on a host that has no web server
and while the web server is down.
"""

import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli import up
from cli.machine import list_training_slots
from cli.options import Json
from cli.output import format_time, out, print_json, print_table, say, waiting
from cli.records import open_records
from shared.child_environment import child_environment
from shared.errors import NotFoundError, UserError
from shared.settings import Settings, get_settings

if TYPE_CHECKING:
    from shared.database import Database
    from shared.tables import Worker

WORKER_STOP_SECONDS = 30.0
LOOK_SECONDS = 0.5
WAIT_POLL_SECONDS = 1.0
# A claim that was being made while the worker was drained shows at the next look.
QUIET_LOOKS = 2
app = typer.Typer()
commands = typer.Typer()
app.add_typer(commands, name="worker")
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="WORKER",
        help="Names as `worker status` shows them. Defaults to those of this host.",
    ),
]


@commands.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    gpu: Annotated[
        list[int] | None,
        typer.Option(
            "--gpu",
            min=0,
            help="Serve this GPU alone; given several times, one training at a time "
            "shares them all.",
        ),
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Train on the CPU.")] = False,
    ingest: Annotated[
        bool, typer.Option("--ingest", help="Read datasets; train nothing.")
    ] = False,
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", help="Job queue to serve; repeatable."),
    ] = None,
) -> None:
    """Run workers of this machine: by default one per GPU, else one on the CPU.

    On another host, TRAINYARD_DATABASE_URL, TRAINYARD_REDIS_URL and
    TRAINYARD_STORAGE_DIR say which installation it joins.
    """
    if context.invoked_subcommand is not None:
        return
    if sum([bool(gpu), cpu, ingest]) > 1:
        raise UserError("Give one of `--gpu`, `--cpu` and `--ingest`.", field="gpu")
    settings = get_settings()
    up.prepare_folders(settings)
    if gpu:
        slots = [",".join(f"gpu-{index}" for index in gpu)]
    elif cpu or ingest:
        slots = ["cpu" if cpu else "ingest"]
    else:
        slots = list_training_slots()
    programs = {slot: _worker_command(slot, queue or []) for slot in slots}
    if len(slots) == 1:
        raise typer.Exit(_run_one_worker(settings, programs[slots[0]]))
    _run_workers(settings, programs)


@commands.command()
def status(as_json: Json = False) -> None:
    """Show every worker of the installation and what it does."""
    from shared import worker_store
    from shared.database import read_clock
    from shared.weight_files import describe_report

    with open_records() as (database, _settings), database.reading() as session:
        now = read_clock(session)
        rows = [
            {
                "name": row.name,
                "status": row.status,
                "alive": worker_store.is_alive(row, now),
                "job": row.job_id,
                "seen_at": row.seen_at,
                "reason": row.reason,
                "base_models": row.base_models,
            }
            for row in worker_store.list_workers(session)
        ]
    if as_json:
        print_json(rows)
        return
    print_table(
        ["worker", "status", "job", "seen", "base models", "why"],
        [
            [
                row["name"],
                row["status"] if row["alive"] else f"{row['status']}, away",
                row["job"],
                format_time(row["seen_at"]),
                describe_report(row["base_models"]),
                row["reason"],
            ]
            for row in rows
        ],
    )


@commands.command()
def drain(
    names: Names = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when none of them has a job.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let workers end their job and take no other, until restarted or readmitted."""
    from shared import worker_store

    reason = "Drained from the command line."
    with open_records() as (database, _settings):
        workers = _set_status(database, names, worker_store.DRAINING, reason)
        if wait:
            with waiting(f"Waiting for the jobs of {', '.join(workers)}"):
                _wait_until_idle(database, list(workers.values()))
    if as_json:
        print_json({"draining": list(workers), "idle": wait})
        return
    rest = "have no job" if wait else "end their job"
    out.print(f"{', '.join(workers)}: {rest} and take no other.")


@commands.command()
def readmit(names: Names = None, as_json: Json = False) -> None:
    """Let drained or quarantined workers take jobs again."""
    from shared import worker_store

    with open_records() as (database, _settings):
        workers = _set_status(database, names, worker_store.ACTIVE, None)
    if as_json:
        print_json({"active": list(workers)})
    else:
        out.print(f"{', '.join(workers)}: take jobs again.")


def _set_status(
    database: "Database", names: list[str] | None, status: str, reason: str | None
) -> dict[str, int]:
    """Changes the workers named, or those of this host; returns name and number."""
    from shared import worker_store

    with database.reading() as session:
        everyone = {
            row.name: row
            for row in worker_store.list_workers(session)
            if row.status != worker_store.GONE
        }
    chosen = _choose(everyone, names)
    for number in chosen.values():
        database.tx(
            lambda session, number=number: worker_store.set_status(
                session, number, status, reason=reason, actor="command line"
            )
        )
    return chosen


def _choose(everyone: "dict[str, Worker]", names: list[str] | None) -> dict[str, int]:
    host = socket.gethostname()
    wanted = names or [name for name, row in everyone.items() if row.host == host]
    missing = [name for name in wanted if name not in everyone]
    if missing or not wanted:
        known = ", ".join(sorted(everyone)) or "none at all"
        who = f"worker {missing[0]!r}" if missing else f"worker of this host ({host})"
        raise NotFoundError(f"There is no {who}. Known: {known}.", field="worker")
    return {name: everyone[name].id for name in wanted}


def _wait_until_idle(database: "Database", numbers: list[int]) -> None:
    from shared import worker_store

    quiet = 0
    while quiet < QUIET_LOOKS:
        time.sleep(WAIT_POLL_SECONDS)
        with database.reading() as session:
            busy = worker_store.list_running_jobs(session, numbers)
        quiet = 0 if busy else quiet + 1


def _worker_command(slot: str, queues: list[str]) -> list[str]:
    served = ["--queues", ",".join(queues)] if queues else []
    return [sys.executable, "-m", "worker.run", "--slot", slot, *served]


def _run_one_worker(settings: Settings, command: list[str]) -> int:
    process = subprocess.Popen(command, env=child_environment(settings))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal has told the worker as well
            say("Stopping; the job is saved first ...")


def _run_workers(settings: Settings, programs: dict[str, list[str]]) -> None:
    from cli.children import Child, stop_all

    environment = child_environment(settings, PYTHONUNBUFFERED="1")
    workers = [
        Child(f"worker-{slot}", command, environment, settings.logs)
        for slot, command in programs.items()
    ]
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    for child in workers:
        child.start()
    say(f"Workers run for {', '.join(programs)}; logs in {settings.logs}")
    while not stopping.is_set():
        for child in workers:
            sentence = child.restart_if_dead()
            if sentence:
                say(sentence)
        time.sleep(LOOK_SECONDS)
    say("Stopping; the jobs are saved first ...")
    stop_all(workers, within_seconds=WORKER_STOP_SECONDS)
