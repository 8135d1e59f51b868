"""The README's first command, on fewer pictures than it shows a user."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.machine import find_free_port
from tests.end_to_end.running_platform import ROOT, RunningPlatform

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(600)]


def test_the_demo_trains_classifies_and_leaves_nothing_running(tmp_path):
    port = find_free_port("127.0.0.1")
    command = [sys.executable, "-m", "cli", "demo", "--json", "--stop"]

    done = subprocess.run(
        [*command, "--images=150", f"--port={port}"],
        cwd=ROOT,
        env=RunningPlatform(tmp_path).environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    low, high = told["interval"]
    assert 0 <= low <= told["accuracy"] <= high <= 1
    assert told["url"] == f"http://127.0.0.1:{port}"
    assert Path(told["archive"]).is_absolute()
    assert Path(told["archive"]).stat().st_size > 1_000_000
    assert {"prepare", "frozen", "evaluate", "export", "forecast", "total"} <= set(
        told["seconds"]
    )
    assert {row["is"] for row in told["classified"]} == {"intact", "defective"}
    assert not (tmp_path / "data" / "up.json").exists()
    assert "Trainyard is stopped" in done.stderr
