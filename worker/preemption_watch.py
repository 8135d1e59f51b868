"""Hears that this machine is about to be taken away, as spot machines are.

Clouds say so some time before, each in its own way: a file, an address on the machine's
own network, a signal. So the operator names a command that ends with 0 once the notice
is there, such as `test -e /run/spot-notice`, or `sh -c '...'` around what asks the
cloud's own address. From then on this worker takes no job, and the one that runs is
saved and given back.
"""

import shlex
import subprocess
import threading
from collections.abc import Callable

import structlog

from shared.errors import UserError

log = structlog.get_logger()

LOOK_SECONDS = 5.0  # the shortest notice that a cloud gives is 30 seconds
COMMAND_SECONDS = 4.0
REASON = "This machine is about to be taken away."


class PreemptionWatch:
    """Runs the operator's command again and again until it says so.

    Args:
        command: As typed; run without a shell.
        on_notice: Called once, when the notice has come.

    Raises:
        UserError: When a quote in the command is not closed.
    """

    def __init__(self, command: str, on_notice: Callable[[], None]) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise UserError(
                f"TRAINYARD_PREEMPTION_COMMAND is no command: {error}. "
                f"Received: {command!r}.",
                field="preemption_command",
            ) from error
        self._on_notice = on_notice
        self._ended = threading.Event()
        self._is_broken = False
        self._thread = threading.Thread(
            target=self._run, name="preemption-watch", daemon=True
        )
        self.is_preempted = False

    def start(self) -> None:
        """Looks once, so that nothing is begun on a machine that goes, then on."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """Ends the looks; one under way is not waited for."""
        self._ended.set()

    def _run(self) -> None:
        while not self.is_preempted and not self._ended.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        if not self._says_so():
            return
        self.is_preempted = True
        log.warning("preemption_noticed")
        self._on_notice()

    def _says_so(self) -> bool:
        try:
            done = subprocess.run(
                self._command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            if not self._is_broken:  # once is enough
                log.warning("preemption_command_failed", error=str(error))
            self._is_broken = True
            return False
        return done.returncode == 0
