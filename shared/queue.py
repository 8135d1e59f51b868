"""The doorbell: a message that says "look in the table", and nothing else.

A kick carries the name of its own queue, never a job: lost, doubled, late or forged
ones do no harm. Rows are committed first, then the bell is rung from a background
thread, so no request ever waits for the broker or fails with it. What is lost is rung
again by the reconciler, and an idle worker looks by itself.
"""

import contextlib
import queue as standard_queue
import threading
from functools import lru_cache

import structlog
from celery import Celery
from kombu.entity import Queue

from shared.job_status import JobKind
from shared.settings import get_settings

log = structlog.get_logger()

KICK = "trainyard.kick"
TRAIN_QUEUE = "trainyard.train"
CPU_QUEUE = "trainyard.cpu"
QUEUES = (TRAIN_QUEUE, CPU_QUEUE)
KEY_PREFIX = "trainyard:"

_WAITING_KICKS = 64  # more than a fleet can answer between two sweeps


def queue_of(kind: str) -> str:
    """Returns the Celery queue whose workers do jobs of `kind`."""
    trains = kind in {JobKind.TRAIN, JobKind.FORECAST}  # on the same slots
    return TRAIN_QUEUE if trains else CPU_QUEUE


def kinds_of(queue: str) -> list[str]:
    """Returns the kinds of job whose doorbell is `queue`."""
    return [kind.value for kind in JobKind if queue_of(kind) == queue]


def ring(kind: str) -> None:
    """Rings for jobs of `kind`, soon and in the background; never fails or waits.

    Call it after the row is committed.
    """
    _bell().ring(queue_of(kind))


def kick(queue: str) -> None:
    """Publishes one kick now.

    Raises:
        kombu.exceptions.OperationalError: When the broker cannot be reached within
            the producer's time limits.
    """
    build_producer().send_task(KICK, args=[queue], queue=queue, ignore_result=True)


def queue_length(queue: str) -> int:
    """Returns how many kicks wait in `queue`; raises when the broker is away."""
    with build_producer().connection_for_read() as connection:
        return int(connection.default_channel.client.llen(queue) or 0)


@lru_cache(maxsize=1)
def build_producer() -> Celery:
    """Returns this process's Celery application for sending by name.

    Time limits are short: a hung broker otherwise blocks a publisher for ever (kombu
    sets no socket timeout; measured: more than 40 s against 6 s with 3 s set).
    """
    app = Celery("trainyard-bell", broker=get_settings().broker_address)
    app.conf.update(
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_queues=[Queue(name) for name in QUEUES],
        task_default_queue=TRAIN_QUEUE,
        task_create_missing_queues=False,  # a typo is an error, not a dead queue
        broker_pool_limit=2,
        broker_connection_timeout=2,
        task_publish_retry=True,
        task_publish_retry_policy={
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.5,
        },
        broker_transport_options={
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
            "global_keyprefix": KEY_PREFIX,
            "client_name": "trainyard",
        },
    )
    return app


class _Bell:
    """A thread that publishes kicks; when too many wait, further ones are dropped."""

    def __init__(self) -> None:
        self._kicks: standard_queue.Queue[str] = standard_queue.Queue(_WAITING_KICKS)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ring(self, queue: str) -> None:
        with contextlib.suppress(standard_queue.Full):
            self._kicks.put_nowait(queue)
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._publish, name="bell", daemon=True
                )
                self._thread.start()

    def _publish(self) -> None:
        while True:
            queue = self._kicks.get()
            try:
                kick(queue)
            except Exception as error:  # noqa: BLE001 - a lost kick does no harm
                log.warning("kick_lost", queue=queue, error=str(error)[:200])


@lru_cache(maxsize=1)
def _bell() -> _Bell:
    return _Bell()
