"""Runs the engine's child processes as the platform does, for benchmarks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from worker import events

ROOT = Path(__file__).resolve().parent.parent
_KIBIBYTE = 1024


def run_child(module: str, spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs a real child process to its end.

    Returns:
        Its last event, and under `peak_bytes` the most that it, or a process that it
        waited for, has held resident.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SPEC.json").write_text(json.dumps(spec))
    environment = {k: v for k, v in os.environ.items() if k != events.FD_VARIABLE}
    with (folder / "stderr.log").open("ab") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", module, folder / "SPEC.json", folder / "work"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert child.stdout is not None
        told = child.stdout.read().splitlines()
        # Of this child and those it waited for, the largest: what `getrusage` tells is
        # the most of all children so far.
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    last = json.loads((told or [b"{}"])[-1])
    if last.get("event") != "finished":
        raise SystemExit(f"{module} failed: {last}\nSee {folder / 'stderr.log'}.")
    return last | {"peak_bytes": usage.ru_maxrss * _KIBIBYTE}
