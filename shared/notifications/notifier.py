"""Sends what is due: webhooks to their addresses, e-mail to the SMTP server.

One runs in every web process, which has a way out and the key that signs: what one has
taken the others leave, until it counts as lost. Webhooks and mail have a thread each,
so that neither waits for the other's servers. One round takes what is due, sends it
side by side (what is due to one mailbox as one mail) and keeps the answers.
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
AT_ONCE = {Channel.WEBHOOK: 2 * SIDE_BY_SIDE, Channel.EMAIL: 1_000}
# Two turns: a webhook has one deadline, a mail one for each of some ten steps.
HOLD_MS = {Channel.WEBHOOK: 120_000, Channel.EMAIL: 600_000}
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

    def run_forever(self, channel: Channel, stop: threading.Event) -> None:
        """Delivers what goes by one channel until `stop` is set."""
        while not stop.is_set():
            sent = 0
            try:
                sent = self.deliver_due(channel)
                if channel == Channel.WEBHOOK:
                    self._forget()
            except Exception as error:  # noqa: BLE001 - the next look tries again
                log.warning("notifier_failed", error=str(error)[:300])
            if not sent:
                stop.wait(self._look_seconds)

    def deliver_due(self, channel: Channel) -> int:
        """Sends what is due, once; returns how many deliveries were tried."""
        taken = self._take(channel)
        if not taken:
            return 0
        together = [[due] for due in taken]
        if channel == Channel.EMAIL:
            taken.sort(key=lambda due: due.receiver_id)
            grouped = groupby(taken, key=lambda due: due.receiver_id)
            together = [list(letter) for _, letter in grouped]
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            list(pool.map(self._deliver, together))
        return len(taken)

    def _take(self, channel: Channel) -> list[Due]:
        with self._database.reading() as session:
            numbers = delivery_store.list_due(session, channel, AT_ONCE[channel])
        if not numbers:
            return []
        return self._database.tx(
            lambda session: delivery_store.take(session, numbers, HOLD_MS[channel])
        )

    def _deliver(self, together: Sequence[Due]) -> None:
        try:
            answer = self._send(together)
        except Exception as error:
            log.exception("delivery_failed", key=together[0].key)
            answer = Answer(good=False, text=f"It could not be sent: {error}")
        try:
            for due in together:
                self._keep(due, answer)
        except Exception:
            log.exception("answer_not_kept", key=together[0].key)

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
        while self._database.tx(delivery_store.forget_old):
            pass


def start(database: Database, settings: Settings, stop: threading.Event) -> None:
    """Starts a notifier in threads that end with the process."""
    notifier = Notifier(database, settings)
    for channel in Channel:
        threading.Thread(
            target=notifier.run_forever,
            args=(channel, stop),
            name=f"notifier {channel}",
            daemon=True,
        ).start()
