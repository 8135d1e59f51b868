"""A host of the arena: one worker, everything below it, and its way to the database."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import psutil

from tests.chaos.toys import HOST, PROGRAM
from tests.services import die_with_parent, wait_until
from tests.worker.processes import ROOT

GONE_SECONDS = 20
FREEZE_TRIES = 50


class Host:
    """One worker with a slot of its own, as on a machine of its own.

    Args:
        name: What its worker says its host is called.
        arena: Where it stands.
        proxy: Its network to the database; None where that is a file.
        settings: Further environment of its worker.
    """

    program = (PROGRAM,)

    def __init__(self, name, arena, proxy=None, **settings):
        self.name, self.proxy = name, proxy
        self._arena = arena
        self._settings = settings
        self.runtime = arena.folder / f"run-{name}"
        self.process = None
        self._seen = []

    def enter(self):
        """Makes the process that calls it one of this host's, before it is a worker."""
        die_with_parent()

    @property
    def lives(self):
        """Whether its worker runs."""
        return self.process is not None and self.process.poll() is None

    def start(self, **environment):
        """Starts the worker, with more environment for this one alone."""
        self.runtime.mkdir(exist_ok=True)
        with (self._arena.folder / f"worker-{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.program, "--slot", "cpu"],
                cwd=ROOT,
                env=self._arena.environment(
                    proxy=self.proxy,
                    TRAINYARD_RUNTIME_DIR=str(self.runtime),
                    **{HOST: self.name},
                    **self._settings,
                    **environment,
                ),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=self.enter,
            )
        self._arena.log.add("arena", "worker_started", host=self.name)
        return self

    def restart_if_dead(self):
        """Starts a new worker where the last one has ended, as `up` does."""
        if not self.lives:
            self.start()

    def below(self):
        """Every process below the worker, guardians, trainers and standbys."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._seen = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in self._seen if process.is_running()]

    def signal(self, number):
        """Sends a signal to the worker's main process alone."""
        self._arena.log.add("nemesis", "signal", host=self.name, number=int(number))
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def signal_all(self, number):
        """Sends a signal to the worker and to everything below it."""
        below = self.below()
        self.signal(number)
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def freeze(self, *, everything=False):
        """SIGSTOP of the worker, or of everything on the host.

        Not in the middle of a transaction of SQLite: whoever holds the lock of a file
        holds up all others until it moves or dies, and no protocol helps against that.
        """
        send = self.signal_all if everything else self.signal
        for _ in range(FREEZE_TRIES):
            send(signal.SIGSTOP)
            if not self._arena.is_locked():
                return
            send(signal.SIGCONT)
            time.sleep(random.uniform(0, 0.1))
        raise TimeoutError("the worker is always within a transaction")

    def thaw(self, *, everything=False):
        """SIGCONT of what `freeze` stopped."""
        (self.signal_all if everything else self.signal)(signal.SIGCONT)

    def kill(self):
        """`kill -9` of the worker; what is below it is left to itself."""
        self.below()
        self.signal(signal.SIGKILL)
        self.process.wait(GONE_SECONDS)

    def stop(self):
        """Ends the worker and waits until nothing of it is left."""
        if self.process is None:
            return
        below = self.below()
        for number in (signal.SIGCONT, signal.SIGKILL):
            for pid in (self.process.pid, *(each.pid for each in below)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.process.wait(GONE_SECONDS)
        wait_until(lambda: not self.below(), GONE_SECONDS, "the host to be empty")
