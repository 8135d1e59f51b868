"""Runs every static check of the project, all of them even when one fails.

`./trainyard check` runs this from the root of the checkout. Arguments choose checks
by name.
"""

import subprocess
import sys
import time
from pathlib import Path

# The launcher has no `.py` ending, so ruff is told of it.
PATHS = [".", "trainyard"]
PYTHON = sys.executable
CHECKS: dict[str, list[str]] = {
    "format": ["ruff", "format", "--check", "--quiet", *PATHS],
    "lint": ["ruff", "check", "--quiet", *PATHS],
    "imports": ["lint-imports", "--no-cache"],
    "types": ["basedpyright", "--level", "error"],
    "spelling": ["codespell"],
    "pins": [PYTHON, "-m", "cli.pins"],
}


def run_checks(names: list[str]) -> bool:
    """Runs the checks `names`, prints what each found; returns whether all passed."""
    passed = True
    for name in names:
        started = time.monotonic()
        run = subprocess.run(
            _command(name), capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - started
        verdict = "passed" if run.returncode == 0 else "FAILED"
        print(f"{name:9} {verdict}  {seconds:.1f} s", flush=True)
        if run.returncode != 0:
            passed = False
            print(run.stdout + run.stderr, flush=True)
    return passed


def _command(name: str) -> list[str]:
    command, *arguments = CHECKS[name]
    return [str(Path(PYTHON).parent / command), *arguments]


def main(names: list[str]) -> int:
    """Runs the named checks, or all; returns the exit code."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(
            f"There is no check {', '.join(unknown)}. Known: {', '.join(CHECKS)}.",
            file=sys.stderr,
        )
        return 2
    return 0 if run_checks(names or list(CHECKS)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
