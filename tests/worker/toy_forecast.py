"""A forecast that foresees nothing: the real events and files, and faults on request.

A file beside the folders of attempts asks for a fault: `slow` or `killed`.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from tests.web.forecast_example import write_forecast
from worker import events

KILLED = "killed"  # once, after it has finished
SLOW = "slow"  # until it is told to stop


def main():
    events.take_over_stdout()
    spec_path, workdir = map(Path, sys.argv[1:])
    spec = json.loads(spec_path.read_text())
    for name in ("prepare", "features", "doctor", "forecast", "write"):
        events.phase(name)
    while (workdir.parents[1] / SLOW).exists():
        time.sleep(0.05)
    final = workdir / "final"
    sha = write_forecast(final)
    events.emit(
        "finished", path=str(final), manifest_sha=sha, bytes=7, step=0,
        summary={"findings": 18, "told": sorted(spec)},
    )  # fmt: skip
    if (workdir.parents[1] / KILLED).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
