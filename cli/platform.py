"""The processes of one machine: broker, web, reconciler, workers.

The order of a start, each step proven before the next:

1. processes that a killed `up` left behind are ended;
2. the embedded broker, unless `TRAINYARD_REDIS_URL` names another;
3. the tables are brought up to date;
4. the first administrator, the local token and the one-time link;
5. web, reconciler and workers together, until web answers.

The order of a stop: workers first, while everything they report to still runs, then web
and reconciler, then the broker; 30 seconds in all.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import httpx
import redis

from cli import children, first_user
from cli.broker import broker_command, broker_socket
from cli.children import Child
from cli.machine import port_free
from shared.child_environment import child_environment
from shared.database import Database
from shared.errors import UserError
from shared.settings import Settings

BROKER_WAIT_SECONDS = 20
WEB_WAIT_SECONDS = 90
LOOK_SECONDS = 0.2
# Workers need `stop_grace_seconds` to save; the rest of the 30 s is for the others.
WORKERS_STOP_SECONDS = 25.0
SERVERS_STOP_SECONDS = 3.0
BROKER_STOP_SECONDS = 2.0
RECORD = "children.json"


@dataclass(frozen=True)
class Address:
    """What a user needs to come in."""

    url: str
    sign_in: str
    token: str


class Platform:
    """Every process of one data folder, under one parent.

    Args:
        settings: With the port to listen on.
        slots: Training slots to run a worker for, and `ingest`.
        say: Shown one sentence per event.
    """

    def __init__(
        self, settings: Settings, slots: list[str], say: Callable[[str], None]
    ) -> None:
        self.settings = settings
        self.say = say
        self._stopping = False
        self._record = settings.runtime / RECORD
        self._broker: list[Child] = []
        if settings.redis_url is None:
            self._broker = [self._child("broker", broker_command(settings))]
        module = [sys.executable, "-m"]
        self._web = self._child("web", [*module, *_web_arguments(settings)])
        self._servers = [
            self._web,
            self._child("reconciler", [*module, "cli", "reconciler"]),
        ]
        self._workers = [
            self._child(f"worker-{slot}", [*module, "worker.run", "--slot", slot])
            for slot in slots
        ]

    def start(self) -> Address:
        """Starts everything and returns how to come in.

        Raises:
            UserError: With the sentence and the log's last lines, when a step fails;
                what was started is stopped again.
        """
        try:
            return self._start()
        except BaseException:
            self.stop()
            raise

    def watch(self) -> None:
        """Starts again whatever dies, until `request_stop`."""
        while not self._stopping:
            self._look()
            time.sleep(LOOK_SECONDS)

    def request_stop(self) -> None:
        """Makes `watch` return; safe in a signal handler."""
        self._stopping = True

    def stop(self) -> None:
        """Stops everything in order, within 30 seconds."""
        children.stop_all(self._workers, within_seconds=WORKERS_STOP_SECONDS)
        children.stop_all(self._servers, within_seconds=SERVERS_STOP_SECONDS)
        children.stop_all(self._broker, within_seconds=BROKER_STOP_SECONDS)
        self._record.unlink(missing_ok=True)

    def _start(self) -> Address:
        settings = self.settings
        left = children.stop_leftovers(self._record, within_seconds=30)
        if left:
            self.say(f"Ended {left} processes that a killed `up` had left")
        if not port_free(settings.host, settings.port):
            raise UserError(
                f"Port {settings.port} of {settings.host} is taken by another program: "
                "choose another with `--port`.",
                field="port",
            )
        if self._broker:
            self._start_broker()
        self._migrate()
        url = settings.public_url or f"http://{settings.host}:{settings.port}"
        database = Database(settings.database_address)
        try:
            token, sign_in = first_user.prepare(database, settings)
        finally:
            database.dispose()
        self._start_rest(f"http://{settings.host}:{settings.port}")
        return Address(url=url, sign_in=f"{url}{sign_in}", token=token)

    def _start_broker(self) -> None:
        broker = self._broker[0]
        self.say("Starting the broker")
        broker.start()
        self._write_record()
        client = redis.Redis(unix_socket_path=str(broker_socket(self.settings)))
        self._wait(broker, lambda: bool(client.ping()), BROKER_WAIT_SECONDS)
        client.close()

    def _migrate(self) -> None:
        self.say("Bringing the tables up to date")
        run = subprocess.run(
            [sys.executable, "-m", "shared.migrations"],
            env=child_environment(self.settings),
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode != 0:
            last = "\n".join((run.stdout + run.stderr).strip().splitlines()[-8:])
            raise UserError(f"The database could not be brought up to date:\n{last}")

    def _start_rest(self, url: str) -> None:
        self.say("Starting web, reconciler and workers")
        for child in [*self._servers, *self._workers]:
            child.start()
        self._write_record()
        with httpx.Client(base_url=url, timeout=5) as client:
            self._wait(
                self._web,
                lambda: client.get("/readyz").status_code == httpx.codes.OK,
                WEB_WAIT_SECONDS,
            )

    def _wait(self, child: Child, ready: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stopping:
            with suppress(OSError, httpx.HTTPError, redis.RedisError):  # not up yet
                if ready():
                    return
            if not child.running or time.monotonic() > deadline:
                raise UserError(
                    f"The {child.name} did not start; the end of {child.log_path}:\n"
                    f"{child.tail()}"
                )
            time.sleep(0.05)
        raise KeyboardInterrupt

    def _look(self) -> None:
        changed = False
        for child in [*self._broker, *self._servers, *self._workers]:
            before = child.process
            sentence = child.restart_if_dead()
            changed = changed or child.process is not before
            if sentence:
                self.say(f"{sentence} (log: {child.log_path})")
        if changed:
            self._write_record()

    def _write_record(self) -> None:
        everyone = [*self._broker, *self._servers, *self._workers]
        children.write_record(everyone, self._record)

    def _child(self, name: str, command: list[str]) -> Child:
        return Child(
            name=name,
            command=command,
            environment=child_environment(self.settings, PYTHONUNBUFFERED="1"),
            log_folder=self.settings.logs,
        )


def _web_arguments(settings: Settings) -> list[str]:
    # A second process where there are cores for it: then one that dies takes no page
    # with it. Threads, because pages wait for the database and uploads for the disk.
    processes = 2 if (os.cpu_count() or 1) >= 4 else 1  # noqa: PLR2004
    return [
        "gunicorn",
        "web.wsgi:app",
        f"--bind={settings.host}:{settings.port}",
        "--worker-class=gthread",
        f"--workers={processes}",
        f"--threads={settings.web_threads}",
        "--timeout=120",
        "--graceful-timeout=2",
        # A page polls every few seconds; at the default of 2 s its connection would be
        # closed just as it asks again.
        "--keep-alive=75",
        # The control socket would lie in the working folder, open to every process.
        "--no-control-socket",
    ]
