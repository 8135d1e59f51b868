"""`./trainyard test --containers` where no engine can run: a reason, and no failure."""

import os
import subprocess
import sys

from tests.containers.compose_file import ROOT


def test_it_is_passed_over_with_a_reason(tmp_path):
    nothing = {"PATH": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none"}

    run = subprocess.run(
        [sys.executable, "-m", "tests.containers", "--keep", str(tmp_path / "kept")],
        cwd=ROOT,
        env={**os.environ, **nothing},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    (line,) = run.stdout.splitlines()
    assert line.startswith(("Skipped: there is no Docker", "Skipped: no Docker"))
