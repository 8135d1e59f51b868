"""What the tests of notifications share: receivers, jobs that end, what was told."""

import ipaddress
import json

from sqlalchemy import select, update

from shared import attempt_store
from shared.notifications import (
    delivery_store,
    receiver_store,
)
from shared.notifications.event_store import Channel, EventKind
from shared.notifications.notifier import Notifier
from shared.notifications.tables import Delivery
from shared.settings import Settings
from tests import factories

KEY = "k" * 40
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
JOBS = [EventKind.FINISHED, EventKind.FAILED, EventKind.STALLED]


def make_settings(tmp_path, **more):
    return Settings(
        data_dir=tmp_path,
        secret_key=KEY,
        public_url="https://yard.example.org",
        **{"webhook_networks": LOOPBACK, **more},
    )


class Postman(Notifier):
    """Delivers by both channels, in the test's own thread."""

    def deliver_due(self, channel=None):
        channels = [channel] if channel else Channel
        return sum(super(Postman, self).deliver_due(one) for one in channels)


def add(database, owner_id, address="", **more):
    values = {"kinds": JOBS, "everyones": False, **more}
    channel = Channel.WEBHOOK if address else Channel.EMAIL
    with database.transaction() as s:
        return receiver_store.add(
            s, owner_id=owner_id, channel=channel, address=address, **values
        ).id


def finish(database, owner_id, title="cells"):
    """The number of a job that has just succeeded."""
    with database.transaction() as s:
        factories.make_job(s, owner_id, title=title)
        claim = factories.claim(s)
        factories.complete(s, claim.job_id, claim.fence)
    return claim.job_id


def end(database, owner_id, outcome="stalled", **values):
    """(number, fence) of a job whose attempt has just ended badly."""
    with database.transaction() as s:
        factories.make_job(s, owner_id)
        claim = factories.claim(s)
        attempt_store.end(
            s, claim.job_id, claim.fence, outcome=outcome, charge=True, **values
        )
    return claim.job_id, claim.fence


def told(hook):
    return [json.loads(body)["type"] for _, body in hook.got]


def read(database, *columns):
    with database.reading() as s:
        return s.execute(select(*columns)).all()


def make_mail_due(database):
    with database.transaction() as s:
        s.execute(update(Delivery).values(due_at=0))


def take(session, hold_ms):
    """Takes every webhook that is due, as a notifier does."""
    due = delivery_store.list_due(session, Channel.WEBHOOK, 9)
    return delivery_store.take(session, due, hold_ms)
