"""One worker process: `python -m worker.run --slot cpu|gpu-N[,gpu-M...]|ingest`.

It owns one slot, registers itself, and does jobs one after the other until it is told
to stop by SIGTERM, SIGINT or SIGQUIT; then the running job is saved and given back.
It runs on without a broker (it looks in the table by itself) and without a database
(a training goes on; what it did is recorded afterwards).
"""

import argparse
import sys
import threading
from dataclasses import dataclass

import structlog

from shared import worker_store
from shared.artifacts import Storage
from shared.database import Database
from shared.errors import UserError
from shared.job_status import JobKind
from shared.log import configure_logging
from shared.pulse import Pulse
from shared.queue import queue_of
from shared.settings import Settings, get_settings
from shared.weight_files import name_folders
from worker.celery_app import build_app, is_shutting_down
from worker.preemption_watch import REASON, PreemptionWatch
from worker.presence import Presence
from worker.programs import COMMANDS, STANDBYS, Programs
from worker.slot_loop import IdlePoll, SlotLoop
from worker.slots import Slot, get_slot, list_gpus
from worker.standby import Standby
from worker.weights_watch import WeightsWatch
from worker.workplace import Workplace

log = structlog.get_logger()


@dataclass(frozen=True)
class Parts:
    """What one worker process consists of.

    Args:
        presence: Its row.
        weights: Looks which base models' weights it has; None when it trains nothing.
        loop: What it does with its slot.
        poll: Its own looks at the table.
        stopping: Set once it drains.
        preemption: Hears that the machine is about to be taken away, where somebody
            has said how.
    """

    presence: Presence
    weights: WeightsWatch | None
    loop: SlotLoop
    poll: IdlePoll
    stopping: threading.Event
    preemption: PreemptionWatch | None = None

    def begin(self) -> None:
        """Starts everything that needs no broker."""
        if self.preemption:
            self.preemption.start()
        if self.weights:
            self.weights.start()
        self.presence.start()
        self.poll.start(self.loop.run_until_idle)

    def drain(self) -> None:
        """Returns once no job runs, what ran being saved, and no child waits."""
        self.stopping.set()
        if self.preemption:
            self.preemption.stop()
        self.poll.stop()
        self.loop.close()


def main(
    arguments: list[str],
    commands: Programs = COMMANDS,
    standbys: Programs = STANDBYS,
) -> int:
    """Runs a worker until it is told to stop.

    Args:
        arguments: Of the command line.
        commands: The program of each kind of job.
        standbys: What waits for the jobs of a kind.
    """
    options = _parse(arguments)
    try:
        settings = get_settings()
        slot = get_slot(options.slot, list_gpus())
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure_logging(settings)
    return run(settings, slot, options.queues.split(","), commands, standbys)


def run(
    settings: Settings,
    slot: Slot,
    queues: list[str],
    commands: Programs,
    standbys: Programs,
) -> int:
    """Returns Celery's exit code once the worker has drained."""
    database = Database(settings.database_address)
    standby = Standby(settings, slot, standbys)
    parts = _build_parts(settings, database, slot, queues, (commands, standby))
    app = build_app(
        settings.broker_address,
        look=parts.loop.run_until_idle,
        begin=parts.begin,
        drain=parts.drain,
    )
    worker = app.Worker(
        hostname=f"{slot.name}@%h",
        queues=[queue_of(slot.kinds[0])],
        loglevel=settings.log_level,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    log.info("worker_started", slot=slot.name, queues=queues)
    try:
        worker.start()
    finally:
        parts.drain()
        parts.presence.stop()
        if parts.weights:
            parts.weights.stop()
        database.dispose()
    log.info("worker_stopped", slot=slot.name)
    return int(worker.exitcode or 0)


def _build_parts(
    settings: Settings,
    database: Database,
    slot: Slot,
    queues: list[str],
    children: tuple[Programs, Standby],
) -> Parts:
    commands, standby = children
    stopping = threading.Event()
    poll = IdlePoll(settings.idle_poll_seconds)
    weights = _build_watch(settings) if JobKind.TRAIN in slot.kinds else None
    presence = Presence(
        database,
        slot,
        queues,
        heartbeat_seconds=settings.heartbeat_seconds,
        on_registered=poll.wake,
        report_weights=weights.report if weights else lambda: None,
        on_beat=Pulse(settings, f"worker-{slot.name}").beat,
    )
    preemption = _build_preemption_watch(settings, presence)
    place = Workplace(
        database,
        settings,
        Storage(settings.storage),
        slot,
        should_stop=lambda: (
            stopping.is_set()
            or is_shutting_down()
            or (preemption is not None and preemption.is_preempted)
        ),
        commands=commands,
        standby=standby,
    )
    loop = SlotLoop(place, presence, queues)
    return Parts(presence, weights, loop, poll, stopping, preemption)


def _build_preemption_watch(
    settings: Settings, presence: Presence
) -> PreemptionWatch | None:
    if not settings.preemption_command:
        return None
    return PreemptionWatch(
        settings.preemption_command,
        lambda: presence.leave_service(worker_store.DRAINING, REASON),
    )


def _build_watch(settings: Settings) -> WeightsWatch:
    return WeightsWatch(name_folders(settings), download=settings.download_weights)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="worker.run", description=__doc__)
    parser.add_argument(
        "--slot",
        required=True,
        help="cpu, ingest, gpu-<index> or gpu-<uuid>; several GPUs joined by commas "
        "share one training",
    )
    parser.add_argument(
        "--queues",
        default="default",
        help="names of the job queues this worker serves, separated by commas",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
