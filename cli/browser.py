"""Finds, and as root installs, the browser that the tests drive.

`python -m cli.browser` leaves Chromium and `libatomic1` (which Playwright's node
needs) on the machine or says in one sentence what is missing. `trainyard doctor` and
the browser tests ask here too.
"""

import shutil
import sys
from pathlib import Path

from cli import system_packages

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
    system_packages.install(["chromium", "libatomic1"], "the browser tests")
    return browser_ready()


def _library_present() -> bool:
    folders = ("lib", "lib64", "usr/lib", "usr/lib64", "lib/*", "usr/lib/*")
    return any(any(Path("/").glob(f"{folder}/{LIBRARY}")) for folder in folders)


if __name__ == "__main__":
    if not install_browser():
        print(MISSING, file=sys.stderr)
        sys.exit(1)
