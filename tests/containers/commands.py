"""Runs the programs of others; what failed is told with its last lines."""

import subprocess


class CommandError(Exception):
    """A program failed."""


def call(command, *, seconds=600, **options):
    """Runs `command` to its end and returns its standard output.

    Args:
        command: Program and arguments.
        seconds: Longest time that it may take.
        options: Further ones of `subprocess.run`.

    Raises:
        CommandError: When it fails or takes longer, with its last lines.
    """
    name = " ".join(map(str, command[:6]))
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=options.pop("stdin", subprocess.DEVNULL),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            **options,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{name} took more than {seconds} s") from error
    except OSError as error:
        raise CommandError(f"{name} could not be started: {error}") from error
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise CommandError(f"{name} ended with {done.returncode}:\n{last}")
    return done.stdout
