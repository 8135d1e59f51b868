"""Tells how long a phase will take, from what this attempt has done of it."""

import time


class Pace:
    """The pace of one phase.

    A resumed attempt finds part of the phase done, and so does one that comes back to a
    phase: only what was done since the first report says how fast it goes.

    Args:
        of: What is counted: the phase and its unit.
    """

    def __init__(self, *of: str | None) -> None:
        self.of = of
        self._first: tuple[int, float] | None = None

    def estimate(self, done: int, total: int) -> float | None:
        """Returns the seconds that are left; None while nothing tells.

        Args:
            done: Finished parts of the phase.
            total: All of its parts.
        """
        if self._first is None or done < self._first[0]:
            self._first = done, time.monotonic()
        first, since = self._first
        if not first < done <= total:
            return None
        return (time.monotonic() - since) / (done - first) * (total - done)
