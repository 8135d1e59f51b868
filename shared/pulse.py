"""A file whose age says when a process last went round: what a health check looks at.

A process that hangs, or that cannot reach the records, lets its pulse grow old. Nothing
of ours decides by it; it is for whoever watches processes from outside.
"""

import contextlib
from pathlib import Path

from shared.settings import Settings


class Pulse:
    """The pulse of one process: `<runtime folder>/<name>.pulse`.

    Args:
        settings: Say where the runtime folder is.
        name: Of the process, the same at each start.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self.path: Path = settings.runtime / f"{name}.pulse"

    def beat(self) -> None:
        """Makes the file new; a disk that takes no file stops no process."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
