"""Runs the real engine as child processes that need not load the frameworks again.

A server process imports them once and forks each child, so that a test can afford many
crashes. The children are real: their own processes, killed with SIGKILL, speaking
through a file as under a supervisor through a pipe.
"""

import json
import multiprocessing
import os
import signal
import time

LONGEST_SECONDS = 400
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["worker.training.materials", "worker.training.publish", "worker.training.phases"]
)


def _run(spec, folder):
    events = os.open(folder / "events.jsonl", os.O_WRONLY | os.O_CREAT)
    os.environ["TRAINYARD_EVENTS_FD"] = str(events)
    errors = os.open(folder / "stderr.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    from worker.training import run  # noqa: PLC0415 - in the child alone

    os._exit(run.main([str(spec), str(folder)]))


class ForkedEngine:
    """One attempt in an empty folder of its own."""

    def __init__(self, spec, folder):
        self.folder = folder
        self.process = _CONTEXT.Process(target=_run, args=(spec, folder))
        self.process.start()
        self._deadline = time.monotonic() + LONGEST_SECONDS
        self._read = 0

    def read_events(self):
        """Yields the events that have come; those not asked for come the next time.

        As from a pipe: none is ever left out before one that is read.
        """
        assert time.monotonic() < self._deadline
        try:
            with (self.folder / "events.jsonl").open("rb") as file:
                file.seek(self._read)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return
        for line in lines:
            if not line.endswith(b"\n"):
                return  # half written
            self._read += len(line)
            yield json.loads(line)

    @property
    def is_writing(self):
        """Whether a checkpoint is half written now."""
        return any((self.folder / "ckpt").glob(".tmp-*"))

    def kill(self):
        """Kills it, as the kernel or an operator does, and sees it gone."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(LONGEST_SECONDS)

    def errors(self):
        return (self.folder / "stderr.log").read_text()[-3000:]
