"""Installs packages of the system that tests need, where that is possible."""

import os
import shutil
import subprocess
import sys


def install(packages: list[str], purpose: str) -> None:
    """Tries to install Debian packages; whoever needs them looks whether they came.

    Does nothing unless we are root and the system has `apt-get`.

    Args:
        packages: Their names.
        purpose: Ends the sentence "Installing X for ...".
    """
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    names = " and ".join(packages)
    print(f"Installing {names} for {purpose} ...", file=sys.stderr, flush=True)
    apt_get = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    for arguments in (
        ["update"],
        ["install", "-y", "--no-install-recommends", *packages],
    ):
        run = subprocess.run(
            [*apt_get, *arguments], capture_output=True, text=True, check=False
        )
        if run.returncode != 0:
            print(run.stderr.strip(), file=sys.stderr)
