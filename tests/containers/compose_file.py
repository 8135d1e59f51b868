"""docker-compose.yml as Compose reads it, and the program that reads it."""

import json
import os
import subprocess
from pathlib import Path

import compose

ROOT = Path(__file__).resolve().parents[2]
# The wheel's own script swallows the exit code of the program.
COMPOSE = Path(compose.__file__).parent / "docker-compose"
PROFILES = ("cpu", "gpu")


# The file `.env` of a user's own installation says nothing to a test.
NO_ENV_FILE = ("--env-file", os.devnull)


def read_compose_file(profiles=PROFILES, **variables):
    """Returns the file as plain data, every variable filled in; needs no engine.

    Args:
        profiles: Whose services are wanted beside those of every profile.
        variables: As the shell would have them; all others are left out.
    """
    chosen = [f"--profile={profile}" for profile in profiles]
    command = [
        str(COMPOSE),
        *NO_ENV_FILE,
        "-f",
        str(ROOT / "docker-compose.yml"),
        *chosen,
    ]
    done = subprocess.run(
        [*command, "config", "--format=json"],
        env={"PATH": os.environ["PATH"], **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr  # a warning is a variable without a value
    return json.loads(done.stdout)
