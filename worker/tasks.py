"""The one task, a doorbell: it carries no job and nothing that decides anything."""

from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery

from shared.queue import KICK, QUEUES

log = structlog.get_logger()


def make_kick(app: Celery, look: Callable[[], int]) -> None:
    """Registers the task `trainyard.kick` with `app`.

    Args:
        app: The worker's application.
        look: Claims and supervises until nothing waits.
    """

    @app.task(name=KICK, typing=False, shared=False)
    def kick(*arguments: Any, **options: Any) -> None:
        """Looks in the table.

        `typing=False` lets a message with other arguments reach the check below: it
        is then logged and ignored.
        """
        try:
            if not is_known(arguments, options):
                log.warning("kick_ignored", arguments=repr(arguments)[:200])
                return
            look()
        except BaseException:
            # A MemoryError or SystemExit that leaves the task wedges the pool's
            # thread: the worker would answer, and never do anything again
            # (https://github.com/celery/celery/issues/10462).
            log.exception("kick_failed")


def is_known(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether a kick is one that our own code sends: for one known queue."""
    return not options and len(arguments) == 1 and arguments[0] in QUEUES
