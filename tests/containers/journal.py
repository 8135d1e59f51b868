"""What a run says of itself: each step with its seconds, and the figures at the end."""

import sys
import time
from contextlib import contextmanager


def write(line):
    """Writes one line at once, also into a file."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Journal:
    """Writes lines to standard output, each with the seconds since the start."""

    def __init__(self):
        self._began = time.monotonic()
        self.figures = {}

    @property
    def seconds(self):
        """Seconds since the start."""
        return time.monotonic() - self._began

    def say(self, text):
        """Writes one line."""
        write(f"[{self.seconds:6.1f} s] {text}")

    @contextmanager
    def step(self, what):
        """Says that a step begins, and how long it took."""
        self.say(f"{what} ...")
        began = time.monotonic()
        yield
        self.say(f"{what}: done in {time.monotonic() - began:.1f} s")

    def note(self, name, figure):
        """Keeps a figure for the end, and says it."""
        self.figures[name] = figure
        self.say(f"{name}: {figure}")

    def close(self):
        """Writes all figures once more, one a line."""
        write("\nFigures")
        width = max(map(len, self.figures), default=0)
        for name, figure in self.figures.items():
            write(f"  {name:{width}}  {figure}")
