"""The events of an engine that runs in a benchmark's own process."""

import functools
import os

from worker import events


@functools.cache
def silence() -> None:
    """Drops them: they are for a supervisor, and standard output is for the figures."""
    os.environ[events.FD_VARIABLE] = str(os.open(os.devnull, os.O_WRONLY))
    events.take_over_stdout()
