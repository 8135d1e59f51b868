"""Looks, now and then, which base models' weights this machine has.

In a thread of its own: a weights folder on a mount that has died hangs whoever looks,
and the worker must go on beating meanwhile. What it found last then stays.
"""

import threading
from typing import Any

import structlog

from shared.weight_files import WeightFolders, list_ready

log = structlog.get_logger()

LOOK_SECONDS = 60.0
# A local look takes milliseconds; a worker registers without it when it takes longer.
FIRST_LOOK_SECONDS = 2.0


class WeightsWatch:
    """What this machine could train, as its worker's row tells it.

    Args:
        folders: Where to look.
        download: Whether this machine fetches what is nowhere.
        seconds: Time between two looks.
    """

    def __init__(
        self, folders: WeightFolders, *, download: bool, seconds: float = LOOK_SECONDS
    ) -> None:
        self._folders = folders
        self._download = download
        self._seconds = seconds
        self._found: dict[str, Any] | None = None
        self._first = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="weights", daemon=True)

    def start(self) -> None:
        """Begins to look; returns after the first look, or soon without it."""
        self._thread.start()
        self._first.wait(FIRST_LOOK_SECONDS)

    def stop(self) -> None:
        """Ends the looking; a look that hangs is left behind."""
        self._ended.set()

    def report(self) -> dict[str, Any] | None:
        """Returns what the last look found, None before the first.

        Returns:
            `ready`: names of the base models whose weights are here; `folders`: where
            others may be put; `download`: whether others are fetched.
        """
        return self._found

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._found = {
                    "ready": list_ready(self._folders),
                    "folders": [str(path) for path in self._folders.list_folders()],
                    "download": self._download,
                }
            except OSError as error:  # such as a mount that has gone stale
                log.warning("weights_not_seen", error=str(error)[:300])
            self._first.set()
            self._ended.wait(self._seconds)
