"""Sends what is due: webhooks to their addresses, e-mail to the SMTP server.

Any number may run, in `trainyard reconciler` and in every web process: what one has
taken the others leave, until it counts as lost. One round:
  1. Take webhooks that are due, post them side by side, keep the answers.
  2. Take mail that is due, and send what is for one receiver as one.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import structlog

from shared.database import Database
from shared.notifications import delivery_store, mail, receiver_store, webhooks
from shared.notifications.delivery_store import Answer, Due
from shared.notifications.event_store import Channel
from shared.settings import Settings

log = structlog.get_logger()

LOOK_SECONDS = 2.0
FIRST_WAIT_SECONDS = 10.0
SIDE_BY_SIDE = 8
# As many as are sent in two turns, so that all are answered before they count as lost.
WEBHOOKS_AT_ONCE = 2 * SIDE_BY_SIDE
MAILS_AT_ONCE = 1_000  # events
HOLD_MS = 120_000
FORGET_SECONDS = 3_600.0
UNWANTED = "Its server answered 410: it wants nothing more."


class Notifier:
    """Delivers the events of one installation.

    Args:
        database: Its records.
        settings: Its settings.
        first_wait_seconds: Before the second try; each further wait is three times as
            long.
        look_seconds: Between two looks at what is due.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._settings = settings
        self._first_wait_seconds = first_wait_seconds
        self._look_seconds = look_seconds
        self._clock = clock
        self._forget_at = clock()

    def run_forever(self, stop: threading.Event) -> None:
        """Delivers until `stop` is set."""
        while not stop.is_set():
            try:
                self.deliver_due()
                self._forget()
            except Exception as error:  # noqa: BLE001 - the next look tries again
                log.warning("notifier_failed", error=str(error)[:300])
            stop.wait(self._look_seconds)

    def deliver_due(self) -> int:
        """Sends what is due, once; returns how many deliveries were tried."""
        with self._database.reading() as session:
            if not delivery_store.is_any_due(session):
                return 0
        posts = [[due] for due in self._take(Channel.WEBHOOK, WEBHOOKS_AT_ONCE)]
        mails = sorted(
            self._take(Channel.EMAIL, MAILS_AT_ONCE), key=lambda due: due.receiver_id
        )
        letters = [
            list(together)
            for _, together in groupby(mails, key=lambda due: due.receiver_id)
        ]
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            list(pool.map(self._deliver, posts + letters))
        return len(posts) + len(mails)

    def _take(self, channel: Channel, limit: int) -> list[Due]:
        return self._database.tx(
            lambda session: delivery_store.take_due(
                session, channel, limit=limit, hold_ms=HOLD_MS
            )
        )

    def _deliver(self, together: Sequence[Due]) -> None:
        try:
            answer = self._send(together)
        except Exception as error:
            log.exception("delivery_failed", key=together[0].key)
            answer = Answer(good=False, text=f"It could not be sent: {error}")
        for due in together:
            self._keep(due, answer)

    def _send(self, together: Sequence[Due]) -> Answer:
        first = together[0]
        if first.channel == Channel.EMAIL:
            return mail.send(self._settings, together)
        secret = webhooks.derive_secret(self._settings.read_secret_key(), first.salt)
        return webhooks.post(
            first, secret, self._settings.public_url, self._settings.webhook_networks
        )

    def _keep(self, due: Due, answer: Answer) -> None:
        def write(session) -> str:  # noqa: ANN001 - as every function of `tx`
            if answer.unwanted:
                receiver_store.switch_off(session, due.receiver_id, UNWANTED)
            return delivery_store.record_try(
                session, due, answer, self._first_wait_seconds
            )

        state = self._database.tx(write)
        log.info(
            "delivery_tried",
            key=due.key,
            channel=due.channel,
            number=due.number,
            status=answer.status,
            state=state,
        )

    def _forget(self) -> None:
        if self._clock() < self._forget_at:
            return
        self._forget_at = self._clock() + FORGET_SECONDS
        self._database.tx(delivery_store.forget_old)


def start(database: Database, settings: Settings, stop: threading.Event) -> None:
    """Starts a notifier in a thread that ends with the process."""
    threading.Thread(
        target=Notifier(database, settings).run_forever,
        args=(stop,),
        name="notifier",
        daemon=True,
    ).start()
