"""`python -m cli`: runs one command and turns failures into one sentence each."""

import sys
import traceback
from datetime import UTC, datetime

from cli.app import app
from cli.output import say
from shared.errors import TrainyardError
from shared.settings import get_settings

INTERRUPTED = 130


def main() -> int:
    """Runs the command line; returns the exit code.

    0: done. 1: it did not work, and standard error says why. 2: wrong usage.
    130: interrupted.
    """
    try:
        app(prog_name="trainyard")
    except TrainyardError as error:
        say(f"trainyard: {error}")
    except KeyboardInterrupt:
        say("trainyard: interrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` perhaps, had enough
        return 0
    except Exception as error:  # noqa: BLE001 - the last place that can explain it
        say(f"trainyard: unexpected {type(error).__name__}: {error}{_keep_traceback()}")
    return 1


def _keep_traceback() -> str:
    """Appends the traceback to a log; returns the words that say where."""
    try:
        path = get_settings().logs / "cli.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat()} {sys.argv}\n")
            traceback.print_exc(file=log)
    except (OSError, TrainyardError):
        return ""
    return f" (the traceback is in {path})"


if __name__ == "__main__":
    sys.exit(main())
