"""Finds, and as root installs, the browser that the tests drive.

`python -m cli.browser` leaves Chromium and `libatomic1` (which Playwright's node
needs) on the machine or says in one sentence what is missing. `trainyard doctor` and
the browser tests ask here too.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
LIBRARY = "libatomic.so.1"
MISSING = (
    "The browser tests need Chromium and libatomic1: install them (for example "
    "`sudo apt-get install chromium libatomic1`) and run the same command again."
)


def find_browser() -> str | None:
    """Returns the path of an installed Chromium, else None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def browser_ready() -> bool:
    """Whether the browser tests can run."""
    return find_browser() is not None and _library_present()


def install_browser() -> bool:
    """Leaves Chromium installed where that is possible; returns whether it is."""
    if browser_ready():
        return True
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    print("Installing Chromium for the browser tests ...", file=sys.stderr, flush=True)
    apt_get = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    packages = ["chromium", "libatomic1"]
    for arguments in (
        ["update"],
        ["install", "-y", "--no-install-recommends", *packages],
    ):
        run = subprocess.run(
            [*apt_get, *arguments], capture_output=True, text=True, check=False
        )
        if run.returncode != 0:
            print(run.stderr.strip(), file=sys.stderr)
    return browser_ready()


def _library_present() -> bool:
    folders = ("lib", "lib64", "usr/lib", "usr/lib64", "lib/*", "usr/lib/*")
    return any(any(Path("/").glob(f"{folder}/{LIBRARY}")) for folder in folders)


if __name__ == "__main__":
    if not install_browser():
        print(MISSING, file=sys.stderr)
        sys.exit(1)
