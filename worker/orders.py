"""What a standby child hears: one order, on the descriptor in `TRAINYARD_ORDERS_FD`.

The order is one line, `{"spec": PATH, "folder": PATH}`: do this, there. Its writing end
is held by the worker alone, so the end of the pipe means that the worker has died or
needs us no more; a line without its end was never given. Until the order comes this
process belongs to no job: it writes into no job's folder, and the kernel takes it first
when memory is short.

Standard library only: what waits must not depend on what it imports meanwhile.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from worker import events

VARIABLE = "TRAINYARD_ORDERS_FD"
_FIRST_TO_GO = "1000"  # of the kernel's out-of-memory scores, the highest
_MEMORY_SCORE = Path("/proc/self/oom_score_adj")


@dataclass(frozen=True)
class Order:
    """What to do.

    Args:
        spec: SPEC.json of the attempt.
        folder: The attempt's own folder.
    """

    spec: Path
    folder: Path


class Orders:
    """Waits for the one order of this process; made before anything slow begins."""

    def __init__(self) -> None:
        # Not for a grandchild, nor is the variable: a trainer that was started at once
        # has none either.
        self._descriptor = int(os.environ.pop(VARIABLE))
        os.set_inheritable(self._descriptor, False)
        self._memory_score = _write_memory_score(_FIRST_TO_GO)

    def wait(self) -> Order | None:
        """Returns the order, or None when there will be none.

        With an order, this process has become the attempt's child: it stands in the
        attempt's folder, writes to the attempt's logs, and has said `began`.
        """
        line = self._read_line()
        if line is None:
            return None
        told = json.loads(line)
        order = Order(Path(told["spec"]), Path(told["folder"]))
        _enter(order.folder)
        if self._memory_score is not None:
            _write_memory_score(self._memory_score)
        events.take_over_stdout()
        events.emit("began")
        return order

    def _read_line(self) -> bytes | None:
        said = b""
        while not said.endswith(b"\n"):
            more = os.read(self._descriptor, 1 << 16)
            if not more:
                return None
            said += more
        os.close(self._descriptor)
        return said


def _enter(folder: Path) -> None:
    """Moves into `folder`, both outputs too: whatever prints from now on is its own."""
    os.chdir(folder)
    for stream, name in ((sys.stdout, "stdout.log"), (sys.stderr, "stderr.log")):
        stream.flush()
        with (folder / name).open("ab") as file:
            os.dup2(file.fileno(), stream.fileno())


def _write_memory_score(score: str) -> str | None:
    """Sets how gladly the kernel kills us for memory; returns what it was."""
    try:
        before = _MEMORY_SCORE.read_text().strip()
        _MEMORY_SCORE.write_text(score)
    except OSError:
        return None
    return before
