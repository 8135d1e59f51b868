"""The Celery face of a worker: it hears the bell, and that is all.

Celery carries one kind of message, `trainyard.kick`, which says "look in the table".
Every setting below was chosen so that a lost, late, doubled or forged message, and a
broker that is killed, frozen or emptied, do no harm. The block was run under kill,
freeze, flush and signals with Celery 5.7.0 and kombu 5.7.0.
"""

import signal
from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state
from kombu.entity import Queue

from shared.queue import KEY_PREFIX, QUEUES
from worker.tasks import make_kick

SETTINGS: dict[str, Any] = {
    # State is in the database, so there are no results: no keys to expire, and no
    # pub/sub connection, whose reconnecting has hung workers
    # (https://github.com/celery/celery/issues/4556).
    "result_backend": None,
    "task_ignore_result": True,
    # JSON only: a broker that others can write to may wake us, never run code here.
    "task_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "event_serializer": "json",
    # Known queues only: a typing error in a name is an error, not a dead queue.
    "task_queues": [Queue(name) for name in QUEUES],
    "task_default_queue": QUEUES[0],
    "task_create_missing_queues": False,
    # Threads: the main loop stays responsive for hours of one job, and no signal ever
    # interrupts database code (https://github.com/psycopg/psycopg/issues/1293).
    # One at a time: a worker owns one slot.
    "worker_pool": "threads",
    "worker_concurrency": 1,
    # A busy worker must reserve nothing. The multiplier alone still reserves one
    # message behind the running task (https://github.com/celery/celery/issues/2788),
    # and one more after a reconnect; measured with this setting: none, both times.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # Acknowledge at the start. Redis hands any unacknowledged message to somebody
    # else after visibility_timeout, running or not
    # (https://github.com/celery/celery/issues/5935): measured, a second copy started
    # 94 s into a task with 5 s. The lease in the database is the only recovery.
    "task_acks_late": False,
    # No loops at the broker's level: a job that kills its worker would be handed out
    # for ever. Its budget is in its row.
    "task_reject_on_worker_lost": False,
    "task_retry_on_worker_lost": False,
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,
    # Becomes true by default in Celery 6: a restart of the broker would then kill
    # hours of training (https://github.com/celery/celery/issues/7185).
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # Our drain is the soft shutdown; Celery's only sleeps the whole time
    # (https://github.com/celery/celery/issues/9505).
    "worker_soft_shutdown_timeout": 0.0,
    # Any client of the broker could broadcast "shutdown"; liveness is in the database.
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    # Reconnect for ever. The default gives up after 100 tries, about 46 minutes, and
    # the worker then stops for good.
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_channel_error_retry": True,
    "broker_pool_limit": 2,
    "broker_pool_acquire_timeout": 5,
    "broker_connection_timeout": 5,
    # A kick that cannot be published is dropped: the idle look replaces it.
    "task_publish_retry": True,
    "task_publish_retry_policy": {
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    },
    "broker_transport_options": {
        # Covers only "fetched and not yet started", since we acknowledge early.
        "visibility_timeout": 3600,
        # kombu sets no timeout of its own: a frozen broker would block for ever
        # (measured: over 40 s). It must exceed the transport's one-second BRPOP.
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 15,
        # The broker may be shared: the shortest visibility_timeout of all apps on a
        # database wins, so our keys have a prefix of their own.
        "global_keyprefix": KEY_PREFIX,
        "client_name": "trainyard",
    },
    # Logging and standard output are ours to configure.
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "enable_utc": True,
}


class WorkerApp(Celery):
    """The Celery application of one worker process.

    Args:
        broker_url: Address of the broker.
        begin: Called once the signals are in place, whether or not a broker answers.
        drain: Called at shutdown; returns once no job runs any more.
    """

    def __init__(
        self, broker_url: str, begin: Callable[[], None], drain: Callable[[], None]
    ) -> None:
        super().__init__("trainyard", broker=broker_url, set_as_current=False)
        self.conf.update(SETTINGS)
        self.begin = begin
        self.drain = drain
        assert self.steps is not None  # a class attribute that the base fills
        self.steps["worker"].add(Bell)


class Bell(bootsteps.StartStopStep):
    """Ties our threads to Celery's life: started before it connects, drained first.

    It stands between the pool and the consumer. So it starts although no broker
    answers, and when it stops, the pool still has its thread, which is ending the
    running job.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self.begin: Callable[[], None] = parent.app.begin
        self.drain: Callable[[], None] = parent.app.drain

    def start(self, parent: Any) -> None:
        """Makes every polite signal mean the same, then begins to look for work."""
        del parent
        # Celery's own SIGQUIT and a second SIGINT cut tasks off, and its SIGHUP
        # executes a new process in place of this one, children and all.
        polite = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGINT, polite)
        signal.signal(signal.SIGQUIT, polite)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.begin()

    def stop(self, parent: Any) -> None:
        """Returns once no job runs any more."""
        del parent
        self.drain()


def build_app(
    broker_url: str,
    *,
    look: Callable[[], int],
    begin: Callable[[], None],
    drain: Callable[[], None],
) -> WorkerApp:
    """Builds the application with its one task.

    Args:
        broker_url: Address of the broker.
        look: What a kick makes the worker do.
        begin: See `WorkerApp`.
        drain: See `WorkerApp`.
    """
    app = WorkerApp(broker_url, begin, drain)
    make_kick(app, look)
    return app


def is_shutting_down() -> bool:
    """Whether a signal has asked this worker to stop.

    Celery sets these flags in its signal handlers, even when the handler raises.
    """
    return any(
        flag is not None and flag is not False
        for flag in (state.should_stop, state.should_terminate)
    )
