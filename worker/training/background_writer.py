"""Writes checkpoints beside the training, so that steps wait for a copy only.

1. Between two steps the state and the variables are copied: what is written is that
   moment, whatever is trained meanwhile.
2. One thread writes the copy, verifies it and reports it, as `CheckpointWriter` does.
3. Meanwhile no second copy is made. A checkpoint that falls due then is taken at the
   first step after it, where the training has come further: memory never holds more
   than one, however slow the disk.
4. What must not be lost (the end of a phase, a stop) is waited for.
5. An error of the thread is raised in the training, at its next step.
"""

import contextlib
import copy
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from worker.training.checkpoint import CheckpointWriter
from worker.training.named_arrays import Arrays
from worker.training.training_state import TrainingState


class BackgroundWriter:
    """Writes one checkpoint at a time in a thread of its own.

    As a context it is left when the last one is durable.

    Args:
        writer: Writes and reports a checkpoint.

    `write_seconds` is how long the last one took to become durable.
    """

    def __init__(self, writer: CheckpointWriter) -> None:
        self.write_seconds = 0.0
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[bool] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        # What ended the training is the error to tell, not what it did to the disk.
        with contextlib.suppress(*([Exception] if kind else [])):
            self.wait()

    def is_free(self) -> bool:
        """Whether a checkpoint would be begun without waiting.

        Raises:
            OSError: When the last one failed, as `CheckpointWriter.save` does.
        """
        if self._under_way is not None and not self._under_way.done():
            return False
        self.wait()
        return True

    def begin(self, state: TrainingState, arrays: Arrays, *, kind: str) -> None:
        """Has `state` as it is now and `arrays` written; waits for the one before.

        Args:
            state: Copied here.
            arrays: Copies, which nobody changes any more.
            kind: `checkpoint.PERIODIC` or `checkpoint.EMERGENCY`.

        Raises:
            OSError: When the one before failed.
        """
        self.wait()
        self._under_way = self._thread.submit(
            self._save, copy.deepcopy(state), arrays, kind
        )

    def wait(self) -> None:
        """Returns when the last checkpoint is durable, or was skipped and said so.

        Raises:
            OSError: When it failed.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _save(self, state: TrainingState, arrays: Arrays, kind: str) -> bool:
        began = time.monotonic()
        try:
            return self._writer.save(state, arrays, kind=kind)
        finally:
            self.write_seconds = time.monotonic() - began
