"""The operation log of a campaign: who did what when, one JSON object a line.

What was accepted and what was cancelled the oracles read here, as the client was told;
what was done to the platform stands here for whoever wants to understand a violation.
"""

import json
import threading
import time

ACKNOWLEDGED = 200


class OperationLog:
    """Appends to one file, from any thread.

    Args:
        path: The file; it is made.
    """

    def __init__(self, path):
        self.path = path
        self._lock = threading.Lock()
        self._stream = path.open("a")

    def add(self, by, what, **facts):
        """Notes that `by` (client, nemesis, arena) did `what`."""
        entry = {"at": round(time.time(), 3), "by": by, "what": what, **facts}
        with self._lock:
            self._stream.write(json.dumps(entry, default=str) + "\n")
            self._stream.flush()

    def close(self):
        """Closes the file."""
        self._stream.close()


def read_operations(path):
    """Returns the entries of a log, in their order."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def list_accepted(operations):
    """The numbers of the jobs whose submission was answered."""
    return [entry["job"] for entry in operations if entry["what"] == "accepted"]


def list_cancelled(operations):
    """The jobs whose cancellation was acknowledged and that were not tried again."""
    cancelled = set()
    for entry in operations:
        if entry["by"] != "client" or entry.get("status") != ACKNOWLEDGED:
            continue
        if entry["what"] == "cancel":
            cancelled.add(entry["job"])
        elif entry["what"] in ("retry", "restart"):
            cancelled.discard(entry["job"])
    return cancelled


def list_asked_to_cancel(operations):
    """The jobs that anybody asked to cancel, whatever was answered."""
    return {entry["job"] for entry in operations if entry["what"] == "cancel"}
