"""Runs the real engine as child processes that speak through a file.

They need not load the frameworks again, so that a test can afford many crashes.
"""

import json
import os
import signal
import time

from tests.worker import warm_children

LONGEST_SECONDS = 400


class ForkedEngine:
    """One attempt in an empty folder of its own."""

    def __init__(self, spec, folder):
        self.folder = folder
        self.process = warm_children.fork(
            ["worker.training.run", str(spec), str(folder)],
            folder / "events.jsonl",
            folder / "stderr.log",
        )
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
