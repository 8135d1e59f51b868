"""One installation under attack: real services, real processes, a client outside.

Two hosts, each with one worker, a web server, a reconciler and a broker, over SQLite or
over a Postgres of their own that each party reaches through a network of its own.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import httpx
from sqlalchemy import select

from cli.machine import find_free_port
from shared import queue, user_store, worker_store
from shared.database import Database, migrate
from shared.tables import (
    Checkpoint,
    Dataset,
    DatasetVersion,
)
from tests.chaos.client import Client
from tests.chaos.hosts import Host
from tests.chaos.oplog import OperationLog
from tests.chaos.records import KERAS, PATIENCE_SECONDS, TOY, Records
from tests.chaos.toys import ENGINE
from tests.proxy import Proxy
from tests.services import Broker, PostgresServer, die_with_parent, wait_until
from tests.worker.processes import ROOT
from tests.worker.toy_trainer import PLANS
from tests.worker.training.pictures import write_pictures

SQLITE, POSTGRES = "sqlite", "postgres"
START_SECONDS = 60
LOCKED_SECONDS = 1.0
SAMPLE_SECONDS = 0.2
TIMERS = {
    "lease_seconds": 2,
    "heartbeat_seconds": 0.3,
    "stop_grace_seconds": 1.5,
    "unconfirmed_lease_seconds": 12,
    "progress_timeout_seconds": 3,
    "idle_poll_seconds": 1,
    "reconcile_seconds": 0.5,
    "retry_backoff_seconds": 0,
    "forecast_on_add": False,  # the campaign counts what the client asked for
}
# TensorFlow is silent for seconds while it starts, for more beside another arena, and
# takes some to stop.
KERAS_TIMERS = {
    "lease_seconds": 4,
    "heartbeat_seconds": 0.5,
    "stop_grace_seconds": 15,
    "progress_timeout_seconds": 60,
    "unconfirmed_lease_seconds": 20,
}


class Arena(Records):
    """See above; `close` ends all of it.

    Args:
        folder: Where everything of it lies.
        kind: `sqlite` or `postgres`.
        engine: `toy` or `keras`: what trains.
        timers: Settings other than the usual short ones.
    """

    def __init__(self, folder, kind=SQLITE, engine=TOY, **timers):
        self.folder, self.kind, self.engine = folder, kind, engine
        folder.mkdir(parents=True, exist_ok=True)
        self.log = OperationLog(folder / "operations.jsonl")
        self.plans = folder / "plans"
        self.storage = folder / "storage"
        self.timers = TIMERS | (KERAS_TIMERS if engine == KERAS else {}) | timers
        self.postgres = self.database = self.web = self.reconciler = None
        self.proxies, self.hosts, self.reconcilers = {}, [], []
        self.broker = self._build_broker()
        # (job, step, fence) of every checkpoint that was ever on record: rows of old
        # ones are swept away.
        self.seen_checkpoints = set()
        self._closed = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self.port = find_free_port("127.0.0.1")

    def start(self):
        """Brings everything up; returns when the web answers and workers wait."""
        self.plans.mkdir()
        self._start_database()
        token = self._furnish()
        self.hosts = self._build_hosts()
        self.start_web()
        self.start_reconciler()
        for host in self.hosts:
            host.start()
        self.client = Client(
            f"http://127.0.0.1:{self.port}", token, self.plans, self.log
        )
        self.wait_until_healthy()
        self._sampler.start()
        return self

    def close(self):
        """Ends every process, whatever state it is in."""
        self._closed.set()
        for host in self.hosts:
            host.stop()
        for process in [self.web, *self.reconcilers]:
            _end_group(process)
        for proxy in self.proxies.values():
            proxy.close()
        if self.database:
            self.database.dispose()
        with contextlib.suppress(ProcessLookupError):
            self.broker.process.send_signal(signal.SIGCONT)
        self.broker.close()
        if self.postgres:
            self.postgres.close()
        self.log.close()

    def environment(self, proxy=None, **more):
        """Returns the environment of one party."""
        timers = {f"TRAINYARD_{k.upper()}": str(v) for k, v in self.timers.items()}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TRAINYARD_")}
        return {
            **kept,
            **timers,
            "PYTHONPATH": str(ROOT),
            "TRAINYARD_DATA_DIR": str(self.folder / "data"),
            "TRAINYARD_STORAGE_DIR": str(self.storage),
            "TRAINYARD_DATABASE_URL": self._url(proxy),
            "TRAINYARD_REDIS_URL": self.broker.url,
            "TRAINYARD_SECRET_KEY": "0" * 64,
            "CUDA_VISIBLE_DEVICES": "-1",
            ENGINE: self.engine,
            PLANS: str(self.plans),
            **more,
        }

    # Processes

    def start_web(self):
        """Starts the web server; it is there when it answers."""
        with (self.folder / "web.log").open("ab") as log:
            self.web = subprocess.Popen(
                [
                    sys.executable, "-m", "gunicorn", "web.wsgi:app",
                    f"--bind=127.0.0.1:{self.port}", "--worker-class=gthread",
                    "--threads=8", "--no-control-socket", "--graceful-timeout=1",
                ],
                cwd=ROOT,
                env=self.environment(self._proxy("web")),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )  # fmt: skip

    def kill_web(self):
        """`kill -9` of the web server, all of its processes."""
        self.log.add("nemesis", "kill_web")
        os.killpg(self.web.pid, signal.SIGKILL)
        self.web.wait(PATIENCE_SECONDS)

    def start_reconciler(self):
        """Starts one more reconciler process."""
        with (self.folder / "reconciler.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", "reconciler"],
                cwd=ROOT,
                env=self.environment(self._proxy("reconciler")),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.reconcilers.append(process)
        return process

    def kill_reconcilers(self):
        """`kill -9` of every reconciler process; those within the web live on."""
        self.log.add("nemesis", "kill_reconcilers", count=len(self.reconcilers))
        for process in self.reconcilers:
            _end_group(process)
        self.reconcilers = []

    def heal(self):
        """Mends what the last fault broke, as `up` and an operator would."""
        if self.postgres and not self.postgres.is_running:
            self.postgres.start()
        for proxy in self.proxies.values():
            proxy.heal()
        if self.broker.process.poll() is not None:
            self.broker.start()
        # What a row has left in the queue would hit the next one; workers look anyway.
        self.broker.client().delete(f"{queue.KEY_PREFIX}{queue.TRAIN_QUEUE}")
        if self.web.poll() is not None:
            self.start_web()
        self.reconcilers = [p for p in self.reconcilers if p.poll() is None]
        if not self.reconcilers:
            self.start_reconciler()
        for host in self.hosts:
            if host.lives:
                host.thaw(everything=True)  # a row that failed may have left it frozen
            host.restart_if_dead()
        self._readmit()

    def _readmit(self):
        """Puts slots back into service that faults of several rows made suspect."""
        names = {f"{host.name}/cpu" for host in self.hosts}

        def change(session):
            for worker in worker_store.list_workers(session):
                if worker.name in names and worker.status == worker_store.QUARANTINED:
                    worker_store.set_status(session, worker.id, worker_store.ACTIVE)

        self.database.tx(change)

    def wait_until_healthy(self):
        """Returns when the web answers and every host's worker is registered."""
        wait_until(self._web_answers, START_SECONDS, "the web server")
        names = {f"{host.name}/cpu" for host in self.hosts}

        def registered():
            items = self.client.get("/workers")["items"]
            return names <= {row["name"] for row in items if row["status"] == "active"}

        wait_until(registered, START_SECONDS, "the workers")

    def _web_answers(self):
        with contextlib.suppress(httpx.HTTPError):
            url = f"http://127.0.0.1:{self.port}/readyz"
            return httpx.get(url, timeout=5).status_code == httpx.codes.OK
        return False

    def is_locked(self):
        """Whether somebody holds SQLite's lock, and keeps it for a while."""
        if self.kind == POSTGRES:
            return False
        path = self.folder / "trainyard.sqlite"
        connection = sqlite3.connect(path, isolation_level=None, timeout=LOCKED_SECONDS)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
        finally:
            connection.close()
        return False

    def _sample(self):
        """Writes down which checkpoints there are, again and again."""
        query = select(Checkpoint.job_id, Checkpoint.step, Checkpoint.fence)
        while not self._closed.wait(SAMPLE_SECONDS):
            # The database may be down.
            with contextlib.suppress(Exception), self.database.reading() as session:
                found = {tuple(row) for row in session.execute(query)}
                self.seen_checkpoints = self.seen_checkpoints | found

    # What it stands on

    def _build_broker(self):
        return Broker()

    def _build_hosts(self):
        return [Host(name, self, self._proxy(name)) for name in ("a", "b")]

    def _start_database(self):
        if self.kind == POSTGRES:
            self.postgres = self._build_postgres()
            self.name = self.postgres.create_database()
        url = self._url(None)
        migrate(url)
        self.database = Database(url)

    def _build_postgres(self):
        return PostgresServer()

    def _url(self, proxy):
        if self.kind == SQLITE:
            return f"sqlite:///{self.folder / 'trainyard.sqlite'}"
        if proxy is None:
            return self.postgres.url(self.name)
        return f"postgresql+psycopg://trainyard@127.0.0.1:{proxy.port}/{self.name}"

    def _proxy(self, party):
        if self.kind == SQLITE:
            return None
        if party not in self.proxies:
            self.proxies[party] = Proxy(self.postgres.socket)
        return self.proxies[party]

    def _furnish(self):
        """Makes a user with a token, and a dataset."""
        path = self.storage / "datasets" / "1" / "1"
        write_pictures(path, classes=2, each=40, side=32)
        with self.database.transaction() as session:
            user = user_store.create_user(session, email="a@b.c", role="admin")
            token = user_store.create_token(session, user.id, "chaos")
            session.add(
                Dataset(name="parts", owner_id=user.id, created_at=0, last_version=1)
            )
            session.flush()
            session.add(
                DatasetVersion(
                    dataset_id=1, version=1, job_id=0, fingerprint="f",
                    rel_path="datasets/1/1", images=80, size_bytes=1,
                    report={"classes": ["class0", "class1"], "counts": {}},
                    created_at=0,
                )
            )  # fmt: skip
        return token


def _end_group(process):
    if process is None:
        return
    for number in (signal.SIGCONT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
    process.wait(PATIENCE_SECONDS)
