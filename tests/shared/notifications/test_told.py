"""Notifications are written with what they tell of, and for whom they are meant."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from sqlalchemy import text, update

from shared import attempt_store, user_store, worker_store
from shared.notifications import (
    receiver_store,
    stuck_job_store,
    webhooks,
)
from shared.notifications.event_store import EventKind
from shared.notifications.stuck_job_store import announce_stuck, list_stuck
from shared.notifications.tables import Event
from shared.tables import Job
from tests import factories
from tests.shared.notifications.posting import (
    KEY,
    add,
    end,
    finish,
    read,
    told,
)


def test_an_owner_hears_that_a_job_finished(database, ana, hook, notifier):
    add(database, ana, hook.url)

    job_id = finish(database, ana, "solar cells")
    notifier.deliver_due()

    ((headers, body),) = hook.got
    told = json.loads(body)
    assert told["type"] == "job.finished"
    assert told["data"]["job_id"] == job_id
    assert told["data"]["title"] == "solar cells"
    assert told["data"]["version"] == 1
    assert told["data"]["accuracy"] == pytest.approx(0.9)
    assert told["data"]["owner"] == "ana@example.org"
    assert told["data"]["url"] == f"https://yard.example.org/jobs/{job_id}"
    assert headers["webhook-id"].startswith("evt_")


def test_the_signature_is_that_of_standard_webhooks(database, ana, hook, notifier):
    receiver_id = add(database, ana, hook.url)
    finish(database, ana)

    notifier.deliver_due()

    ((headers, body),) = hook.got
    with database.reading() as s:
        salt = receiver_store.get(s, receiver_id).salt
    secret = webhooks.derive_secret(KEY, salt)
    assert secret.startswith("whsec_")
    assert salt not in secret
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(base64.b64decode(secret[6:]), signed, hashlib.sha256).digest()
    expected = f"v1,{base64.b64encode(digest).decode()}"
    assert headers["webhook-signature"] == expected
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


def test_it_agrees_with_the_example_of_the_standard():
    # Source: the tests of github.com/standard-webhooks/standard-webhooks.
    signature = webhooks.sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_failure_and_a_stall_are_told_with_their_reason(
    database, ana, hook, notifier
):
    add(database, ana, hook.url)
    end(database, ana, "failed", permanent=True, reason="The class `a` is empty.")
    end(database, ana, "stalled", reason="No step for 15 minutes.")
    end(database, ana, "crash")  # is tried again, and nobody's concern yet

    notifier.deliver_due()

    data = {json.loads(b)["type"]: json.loads(b)["data"] for _, b in hook.got}
    assert set(data) == {"job.failed", "job.stalled"}
    assert "The class `a` is empty." in data["job.failed"]["reason"]
    assert "No step for 15 minutes." in data["job.stalled"]["reason"]


def test_only_kinds_that_were_asked_for_are_told(database, ana, hook, notifier):
    add(database, ana, hook.url, kinds=[EventKind.FAILED])

    finish(database, ana)
    notifier.deliver_due()

    assert hook.got == []
    assert read(database, Event.id) == []


def test_others_hear_nothing_but_admins_who_ask_do(database, ana, hook, notifier):
    with database.transaction() as s:
        bob = factories.make_user(s).id
        root = factories.make_user(s, role="admin").id
    add(database, bob, hook.url + "/bob", everyones=True)
    add(database, root, hook.url + "/quiet")
    add(database, root, hook.url + "/root", everyones=True)

    finish(database, ana)
    notifier.deliver_due()

    assert len(hook.got) == 1
    with database.transaction() as s:
        user_store.set_role(s, root, "member")
    finish(database, ana)
    notifier.deliver_due()
    assert len(hook.got) == 1


def test_nobody_hears_of_what_was_rolled_back(database, ana, hook, notifier):
    add(database, ana, hook.url)

    with database.transaction() as s:
        factories.make_job(s, ana)
        claim = factories.claim(s)
        factories.complete(s, claim.job_id, claim.fence)
        s.rollback()

    assert notifier.deliver_due() == 0
    assert read(database, Event.id) == []


def test_what_is_reported_twice_is_told_once(database, ana, hook, notifier):
    add(database, ana, hook.url)
    job_id, fence = end(database, ana, "stalled")
    with database.transaction() as s:  # the answer to the first one got lost
        attempt_store.end(s, job_id, fence, outcome="stalled", charge=True)

    notifier.deliver_due()

    assert told(hook) == ["job.stalled"]


def test_a_shut_out_user_hears_nothing(database, ana, hook, notifier):
    add(database, ana, hook.url)
    finish(database, ana)
    with database.transaction() as s:
        user_store.set_active(s, ana, active=False)

    assert notifier.deliver_due() == 0
    assert hook.got == []


def wait_long(database):
    with database.transaction() as s:
        s.execute(update(Job).values(updated_at=1))


def test_jobs_without_a_worker_are_told_of_once(database, ana, hook, notifier):
    add(database, ana, hook.url)
    with database.transaction() as s:
        factories.make_worker(s)
        factories.make_job(s, ana)  # has a worker
        factories.make_job(s, ana, gpu_mem_mb=80_000)
        factories.make_job(s, ana, queue="night")
        late = factories.make_job(s, ana, queue="night")
    wait_long(database)
    with database.transaction() as s:
        s.execute(text("UPDATE jobs SET not_before = 9000000000000 WHERE id = :n"),
                  {"n": late})  # fmt: skip

    tell_stuck(database)
    tell_stuck(database)
    notifier.deliver_due()

    assert told(hook) == ["job.stalled"] * 2
    assert "15 minutes" in json.loads(hook.got[0][1])["data"]["reason"]


def tell_stuck(database):
    """Looks once, as the reconciler does; returns what was found."""
    with database.reading() as s:
        found = list_stuck(s, 900)
    with database.transaction() as s:
        announce_stuck(s, found, 900)
    return found


def test_a_worker_that_left_a_moment_ago_may_come_back(database, ana, hook):
    add(database, ana, hook.url)
    with database.transaction() as s:
        number = factories.make_worker(s)
        worker_store.set_status(s, number, worker_store.GONE, actor="worker:1")
        factories.make_job(s, ana)
    wait_long(database)

    assert tell_stuck(database) == []


def test_a_quarantined_worker_takes_nothing(database, ana, hook):
    add(database, ana, hook.url)
    with database.transaction() as s:
        number = factories.make_worker(s)
        worker_store.set_status(s, number, worker_store.QUARANTINED, actor="user:1")
        factories.make_job(s, ana)
    wait_long(database)

    assert len(tell_stuck(database)) == 1


def test_jobs_of_who_does_not_want_to_hear_hide_nobody_s(
    database, ana, hook, monkeypatch
):
    monkeypatch.setattr(stuck_job_store, "AT_ONCE", 3)
    with database.transaction() as s:
        bob = factories.make_user(s).id
        for _ in range(5):
            factories.make_job(s, bob)
        mine = factories.make_job(s, ana)
    add(database, bob, hook.url + "/bob", kinds=[EventKind.FINISHED])
    add(database, ana, hook.url)
    wait_long(database)

    assert tell_stuck(database) == [mine]


def test_jobs_that_have_just_come_are_not_stuck(database, ana, hook):
    add(database, ana, hook.url)
    with database.transaction() as s:
        factories.make_job(s, ana)

    assert tell_stuck(database) == []
