"""`up`, `reconciler`, `migrate`: the processes of an installation."""

import signal
import threading
from typing import Annotated, Any

import typer

from cli import up
from cli.machine import list_training_slots
from cli.options import DataDir, Json, Port, settings_with
from cli.output import out, print_json, say, waiting
from shared.errors import UserError
from shared.settings import Settings, get_settings

app = typer.Typer()


@app.command("up")
def run_up(
    data_dir: DataDir = None,
    port: Port = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            help="Training workers to run. Defaults to one per GPU, else one.",
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run in the background.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop the one that runs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the whole platform on this machine, on its embedded defaults."""
    settings = settings_with(data_dir=data_dir, port=port)
    if stop:
        stop_platform(settings, as_json=as_json)
        return
    slots = [*choose_slots(workers), "ingest"]
    if detach:
        state = start_platform(settings, slots[:-1] if workers is not None else None)
        _show_ready(state, as_json=as_json)
        return
    up.run_in_front(
        settings,
        slots,
        say=say,
        ready=lambda state: _show_ready(state, as_json=as_json),
    )


def start_platform(settings: Settings, slots: list[str] | None) -> dict[str, Any]:
    """Starts the platform in the background with a progress bar."""
    with waiting("Starting the platform"):
        return up.start_in_background(settings, slots)


def stop_platform(settings: Settings, *, as_json: bool) -> None:
    """Stops the platform of a data folder and says whether one ran."""
    with waiting("Stopping the platform"):
        stopped = up.stop_running(settings)
    if as_json:
        print_json({"stopped": stopped})
    elif stopped:
        say("Trainyard is stopped.")
    else:
        say(f"Trainyard does not run on {settings.data_dir.absolute()}.")


def choose_slots(workers: int | None) -> list[str]:
    """Returns the training slots to use: all, or the first `workers`.

    Raises:
        UserError: When this machine has fewer slots.
    """
    slots = list_training_slots()
    if workers is None:
        return slots
    if workers > len(slots):
        raise UserError(
            f"`--workers` must be at most {len(slots)} here: one per GPU, or one on "
            f"the CPU, since a second would only take the cores of the first. "
            f"Received: {workers}.",
            field="workers",
        )
    return slots[:workers]


@app.command()
def reconciler() -> None:
    """Ring again what waits, requeue what died, collect garbage; any number may run."""
    from shared.database import get_database
    from shared.log import configure_logging
    from shared.pulse import Pulse
    from shared.reconciler import Reconciler

    settings = get_settings()
    configure_logging(settings)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    pulse = Pulse(settings, "reconciler")
    Reconciler(get_database(), settings).run_forever(stop, on_sweep=pulse.beat)


@app.command()
def migrate(as_json: Json = False) -> None:
    """Bring the database's tables up to date; safe to run by two at once."""
    from shared.database import migrate as migrate_database

    settings = get_settings()
    up.prepare_folders(settings)
    migrate_database(settings.database_address)
    if as_json:
        print_json({"migrated": True})
    else:
        say("The tables are up to date.")


def _show_ready(state: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(state)
        return
    once = "/links/" in state["sign_in"]
    words = "Sign in once with   " if once else "Sign in at          "
    out.print(
        f"\nTrainyard runs at {state['url']}\n"
        f"{words} {state['sign_in']}\n"
        f"Data folder          {state['data_dir']}\n",
        soft_wrap=True,
    )
