"""What a running child process is asked by signals, and when it obeys.

SIGTERM  stop: between two batches, after an emergency checkpoint; anywhere else at
         once, because nothing is lost there: packs and features are published shard
         by shard, and training that has ended is saved before evaluation begins.
SIGUSR2  finish now: end the phase, evaluate and export the best so far.
SIGUSR1  write every thread's stack to standard error.
"""

import contextlib
import faulthandler
import os
import signal
from collections.abc import Iterator
from types import FrameType

STOPPED_EXIT_CODE = 75


class Stopped(Exception):  # noqa: N818 - control flow, not a failure
    """The run was asked to stop and its state is saved."""


class StopRequests:
    """The requests received so far.

    Args:
        finish: Whether the user wants the best so far, now.
        stop: Whether the process must end after this batch.
    """

    def __init__(self) -> None:
        self.finish = False
        self.stop = False
        self._between_batches_only = False

    def install(self) -> None:
        """Takes the three signals; call it before the slow imports."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGUSR2, self._on_finish)
        faulthandler.register(signal.SIGUSR1, all_threads=True)

    @contextlib.contextmanager
    def saved_first(self) -> Iterator[None]:
        """While training: a stop waits until the state is saved."""
        self._between_batches_only = True
        try:
            yield
        finally:
            self._between_batches_only = False
        if self.stop:  # it came after the last batch
            os._exit(STOPPED_EXIT_CODE)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop = True
        if not self._between_batches_only:
            # Not an exception: thrown into a library's C callback it may be lost.
            os._exit(STOPPED_EXIT_CODE)

    def _on_finish(self, _number: int, _frame: FrameType | None) -> None:
        self.finish = True
