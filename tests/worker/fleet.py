"""Whole worker processes on one or several hosts, with a broker and a reconciler."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from celery import Celery

from shared import queue, worker_store
from shared.child_environment import child_environment
from shared.reconciler import Reconciler
from tests.services import die_with_parent
from tests.worker.processes import ROOT, wait_until
from tests.worker.workshop import TIMERS, Workshop


class Fleet:
    """A workshop with a broker, real workers and a reconciler swept on demand."""

    def __init__(self, database, folder, broker, **timers):
        self.shop = Workshop(database, folder, **timers)
        self.broker = broker
        self.timers = TIMERS | timers
        self.reconciler = Reconciler(database, self.shop.settings)
        self.workers = []
        self._folders = [self.shop.settings.data_dir.parent]

    def start_worker(self, host="one", slot="cpu", **environment):
        """Starts a worker; each `host` has slot locks of its own, as machines do."""
        settings = self.shop.settings.model_copy(
            update={"runtime_dir": self.shop.settings.data_dir / f"run-{host}"}
        )
        self._folders.append(settings.runtime)  # a long path is not used as it is
        command = ["-m", "tests.worker.toy_worker", "--slot", slot]
        environment = self._environment(settings) | environment
        return self._spawn(command, environment, settings.data_dir, f"worker-{host}")

    def workers_seen(self):
        """The rows of all workers."""
        with self.shop.database.reading() as session:
            return worker_store.list_workers(session)

    def start_reconciler(self):
        """Starts `trainyard reconciler`, the process."""
        settings = self.shop.settings
        command = ["-m", "cli", "reconciler"]
        return self._spawn(
            command, self._environment(settings), settings.data_dir, "reconciler"
        )

    def start_far_worker(self, host, command, **addresses):
        """Starts a worker that shares nothing with us but shared storage.

        Args:
            host: Names its own data folder, the only one it has.
            command: Of Python.
            addresses: `database_url` and `redis_url` as it reaches them.
        """
        folder = self.shop.settings.data_dir.parent / f"host-{host}"
        folder.mkdir(exist_ok=True)
        named = {f"TRAINYARD_{k.upper()}": v for k, v in addresses.items()}
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TRAINYARD_DATA_DIR": str(folder),
            "TRAINYARD_STORAGE_DIR": str(self.shop.storage.root),
            **self._timers(),
            **named,
        }
        return self._spawn(command, environment, folder, f"worker-{host}")

    def _environment(self, settings):
        return child_environment(
            settings,
            **self._timers(),
            TRAINYARD_DATABASE_URL=settings.database_url,
            TRAINYARD_REDIS_URL=self.broker.url,
        )

    def _timers(self):
        return {f"TRAINYARD_{k.upper()}": str(v) for k, v in self.timers.items()}

    def _spawn(self, command, environment, folder, name):
        with (folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.workers.append(process)
        return process

    def trainers(self):
        """The trainers that run now, whoever's children they are."""
        storage = self.shop.storage.root
        return [p for p, cwd in self._toys() if cwd.is_relative_to(storage)]

    def standbys(self):
        """The children that wait for a job now."""
        storage = self.shop.storage.root
        return [p for p, cwd in self._toys() if not cwd.is_relative_to(storage)]

    def _toys(self):
        """Toy processes of this fleet, each with the folder it stands in."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                folder = Path(process.cwd())
                ours = any(map(folder.is_relative_to, self._folders))
                if not ours or "toy_" not in line or "worker.guardian" in line:
                    continue
                parent = process.parent()
                # A copy of its parent that is about to become another program.
                if parent is None or parent.cmdline() != process.cmdline():
                    yield process.pid, folder

    def standby(self):
        (pid,) = wait_until(self.standbys, 30, "a waiting child")
        return pid

    def trainer(self):
        (pid,) = wait_until(self.trainers, 30, "a trainer")
        return pid

    def wait_for_metrics(self, job_id):
        wait_until(lambda: self.shop.metrics(job_id), 30, "the first metrics")

    def wait_for_step(self, job_id, step=10, timeout=30):
        wait_until(
            lambda: self.shop.job(job_id).last_step >= step, timeout, f"step {step}"
        )

    def wait_for_state(self, job_id, state, timeout=40, *, sweep=False):
        def is_there():
            if sweep:
                self.reconciler.sweep()
            return self.shop.job(job_id).state == state

        wait_until(is_there, timeout, f"job {job_id} {state}")

    def sweep_until_lost(self, job_id, timeout=40):
        """Sweeps until the job's first attempt is taken from its worker."""

        def is_lost():
            self.reconciler.sweep()
            return self.shop.attempts(job_id)[0].outcome == "lost"

        wait_until(is_lost, timeout, f"the first attempt of job {job_id} to be lost")

    def ring(self):
        """Publishes one kick, as web does after a submission."""
        app = Celery("bell", broker=self.broker.url, set_as_current=False)
        app.conf.broker_transport_options = {"global_keyprefix": queue.KEY_PREFIX}
        app.send_task(
            queue.KICK,
            args=[queue.TRAIN_QUEUE],
            queue=queue.TRAIN_QUEUE,
            ignore_result=True,
        )
        app.close()

    def count_kicks(self):
        """How many kicks nobody has heard yet."""
        return self.broker.client().llen(f"{queue.KEY_PREFIX}{queue.TRAIN_QUEUE}")

    def wait_for_listener(self):
        """Returns once a worker is registered and listens to the broker."""

        def is_there():
            with self.shop.database.reading() as session:
                rows = worker_store.list_workers(session)
            clients = self.broker.client().client_list()
            listening = any(client["cmd"] == "brpop" for client in clients)
            return listening and any(row.status == "active" for row in rows)

        wait_until(is_there, 30, "an idle worker")

    def close(self):
        for process in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        wait_until(lambda: not list(self._toys()), what="children to be gone")


def straight_run(fleet, **training):
    """Digest of an uninterrupted run's weights."""
    job_id = fleet.shop.submit(**(training | {"step_seconds": 0}))
    fleet.shop.run_one()
    return fleet.shop.weights(job_id)
