"""Runs the engine's child processes as the platform does, for benchmarks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def run_child(module: str, spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs a real child process to its end; returns its last event."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SPEC.json").write_text(json.dumps(spec))
    environment = {k: v for k, v in os.environ.items() if k != "TRAINYARD_EVENTS_FD"}
    with (folder / "stderr.log").open("ab") as errors:
        done = subprocess.run(
            [sys.executable, "-m", module, folder / "SPEC.json", folder / "work"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
        )
    last = json.loads((done.stdout.splitlines() or [b"{}"])[-1])
    if last.get("event") != "finished":
        raise SystemExit(f"{module} failed: {last}\nSee {folder / 'stderr.log'}.")
    return last
