"""Notifications: written with what they tell of, delivered at least once, answered."""

import base64
import email
import hashlib
import hmac
import ipaddress
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, func, select, text, update

from shared import attempt_store, reconcile_store, user_store, worker_store
from shared.database import Database, read_clock
from shared.errors import ConflictError
from shared.notifications import (
    delivery_store,
    receiver_store,
    stuck_job_store,
    webhooks,
)
from shared.notifications.event_store import Channel, EventKind, announce_test
from shared.notifications.notifier import Notifier
from shared.notifications.stuck_job_store import announce_stuck, list_stuck
from shared.notifications.tables import Delivery, DeliveryTry, Event, Receiver
from shared.settings import Settings
from shared.tables import Job
from tests import factories
from tests.receivers import HookServer, MailServer
from tests.services import wait_until

KEY = "k" * 40
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
JOBS = [EventKind.FINISHED, EventKind.FAILED, EventKind.STALLED]


@pytest.fixture
def hook():
    server = HookServer()
    yield server
    server.close()


@pytest.fixture
def mailbox():
    server = MailServer()
    yield server
    server.close()


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


@pytest.fixture
def notifier(database, tmp_path):
    return Postman(database, make_settings(tmp_path), first_wait_seconds=0)


def add(database, owner_id, address="", **more):
    values = {"kinds": JOBS, "everyones": False, **more}
    channel = Channel.WEBHOOK if address else Channel.EMAIL
    with database.transaction() as s:
        return receiver_store.add(
            s, owner_id=owner_id, channel=channel, address=address, **values
        ).id


@pytest.fixture
def ana(database):
    with database.transaction() as s:
        return factories.make_user(s, email="ana@example.org").id


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


# What is told, and to whom


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


# Jobs that no worker takes


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


# At least once


def test_it_is_sent_again_until_it_is_taken(database, ana, tmp_path):
    hook = HookServer(500, 302, 200, location="http://127.0.0.1:1/")
    add(database, ana, hook.url)
    finish(database, ana)
    notifier = Postman(database, make_settings(tmp_path), first_wait_seconds=0)

    rounds = [notifier.deliver_due() for _ in range(4)]

    assert rounds == [1, 1, 1, 0]
    keys = {headers["webhook-id"] for headers, _ in hook.got}
    assert len(keys) == 1
    tries = read(database, DeliveryTry.number, DeliveryTry.status, DeliveryTry.answer)
    assert tries == [
        (1, 500, "status 500 it is"),
        (2, 302, "status 302 it is"),
        (3, 200, "status 200 it is"),
    ]
    assert read(database, Delivery.state) == [("delivered",)]
    hook.close()


def test_waits_between_tries_grow_up_to_six_hours():
    waits = [delivery_store.wait_ms(n, 10) // 1000 for n in range(1, 13)]

    assert waits == [10, 30, 90, 270, 810, 2430, 7290, 21600, *[21600] * 4]
    assert sum(waits[:11]) > 24 * 3600


def test_a_try_is_not_made_before_its_time(database, ana, tmp_path):
    hook = HookServer(500)
    add(database, ana, hook.url)
    finish(database, ana)
    notifier = Postman(database, make_settings(tmp_path), first_wait_seconds=60)

    assert [notifier.deliver_due() for _ in range(2)] == [1, 0]
    hook.close()


def test_at_last_it_is_given_up_and_can_be_sent_again(database, ana, tmp_path):
    hook = HookServer(*[503] * delivery_store.MAX_TRIES, 200)
    add(database, ana, hook.url)
    finish(database, ana)
    notifier = Postman(database, make_settings(tmp_path), first_wait_seconds=0)

    while notifier.deliver_due():
        pass

    ((number, state, tries),) = read(
        database, Delivery.id, Delivery.state, Delivery.tries
    )
    assert (state, tries) == ("given_up", delivery_store.MAX_TRIES)
    with database.transaction() as s:
        delivery_store.send_again(s, number)
    notifier.deliver_due()
    assert read(database, Delivery.state) == [("delivered",)]
    hook.close()


def test_what_a_dead_process_had_taken_is_sent_by_another(
    database, ana, hook, notifier
):
    add(database, ana, hook.url)
    finish(database, ana)
    with database.transaction() as s:  # and then it dies; its time is over at once
        (taken,) = take(s, 0)

    assert notifier.deliver_due() == 1

    assert told(hook) == ["job.finished"]
    assert read(database, DeliveryTry.number) == [(taken.number + 1,)]


def test_what_one_has_taken_others_leave(database, ana, hook, notifier):
    add(database, ana, hook.url)
    finish(database, ana)
    with database.transaction() as s:
        take(s, 60_000)

    assert notifier.deliver_due() == 0
    assert hook.got == []


def test_a_late_answer_of_a_lost_try_counts_when_it_is_good(database, ana, hook):
    add(database, ana, hook.url)
    finish(database, ana)
    tries = []
    for _ in range(2):
        with database.transaction() as s:
            tries += take(s, 0)
    bad = delivery_store.Answer(good=False, text="late")
    good = delivery_store.Answer(good=True, text="late", status=200)

    for answer in (bad, good):
        with database.transaction() as s:
            delivery_store.record_try(s, tries[0], answer, 0)

    assert read(database, Delivery.state) == [("delivered",)]


def test_many_notifiers_deliver_each_event_once(database, ana, hook, tmp_path):
    add(database, ana, hook.url)
    for _ in range(24):
        finish(database, ana)

    def work(_):
        own = Database(database.url.render_as_string(hide_password=False))
        notifier = Postman(own, make_settings(tmp_path), first_wait_seconds=60)
        while notifier.deliver_due():
            pass
        own.dispose()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    keys = [headers["webhook-id"] for headers, _ in hook.got]
    assert len(keys) == len(set(keys)) == 24
    assert {state for (state,) in read(database, Delivery.state)} == {"delivered"}


def test_a_receiver_that_hangs_holds_nobody_up(
    sqlite_database, tmp_path, hook, monkeypatch
):
    monkeypatch.setattr(webhooks, "TRY_SECONDS", 0.5)
    database, slow = sqlite_database, HookServer(5)
    with database.transaction() as s:
        ana = factories.make_user(s).id
    add(database, ana, slow.url)
    for _ in range(40):
        finish(database, ana)
    add(database, ana, hook.url)
    finish(database, ana)
    notifier = Postman(database, make_settings(tmp_path), first_wait_seconds=60)

    notifier.deliver_due()

    assert told(hook) == ["job.finished"]
    slow.close()


def test_one_user_s_receivers_that_hang_hold_nobody_up(
    sqlite_database, tmp_path, hook, monkeypatch
):
    monkeypatch.setattr(webhooks, "TRY_SECONDS", 0.5)
    database, slow = sqlite_database, HookServer(5)
    with database.transaction() as s:
        ana, bob = factories.make_user(s).id, factories.make_user(s).id
    for number in range(6):
        add(database, bob, f"{slow.url}/{number}")
    for _ in range(10):
        finish(database, bob)
    add(database, ana, hook.url)
    finish(database, ana)

    Postman(database, make_settings(tmp_path), first_wait_seconds=60).deliver_due()

    assert told(hook) == ["job.finished"]
    slow.close()


def test_a_receiver_that_is_removed_meanwhile_harms_nobody(database, ana, hook):
    number = add(database, ana, hook.url)
    finish(database, ana)
    with database.transaction() as s:
        (due,) = take(s, 60_000)
    with database.transaction() as s:
        receiver_store.remove(s, number)

    with database.transaction() as s:  # its answer comes now
        delivery_store.record_try(s, due, delivery_store.Answer(True, "", 200), 0)

    assert read(database, DeliveryTry.number) == []


def test_removing_a_receiver_waits_for_who_tells_it(postgres_url):
    database, other = Database(postgres_url), Database(postgres_url)
    with database.transaction() as s:
        ana = factories.make_user(s).id
    number = add(database, ana, "https://example.org")
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as s:
            factories.make_job(s, ana)
            claim = factories.claim(s)
            factories.complete(s, claim.job_id, claim.fence)
            removed = pool.submit(
                other.tx, lambda s: s.execute(delete(Receiver)).rowcount
            )
            wait_until(lambda: is_anybody_waiting(database), what="the removal to wait")
        assert removed.result() == 1
    assert number
    for one in (database, other):
        one.dispose()


def is_anybody_waiting(database):
    with database.reading() as s:
        query = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return s.scalar(query) > 0


def test_a_receiver_that_wants_no_more_is_switched_off(database, ana, tmp_path):
    hook = HookServer(410)
    add(database, ana, hook.url)
    finish(database, ana)
    notifier = Postman(database, make_settings(tmp_path), first_wait_seconds=0)

    notifier.deliver_due()
    finish(database, ana)

    assert notifier.deliver_due() == 0
    ((active, problem),) = read(database, Receiver.active, Receiver.problem)
    assert not active
    assert "410" in problem
    hook.close()


# Where webhooks may go


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_private_addresses_are_refused_unless_allowed(
    sqlite_database, tmp_path, hook, host
):
    database = sqlite_database
    with database.transaction() as s:
        ana = factories.make_user(s).id
    add(database, ana, hook.url.replace("127.0.0.1", host))
    finish(database, ana)
    settings = make_settings(tmp_path, webhook_networks=[])

    Postman(database, settings, first_wait_seconds=60).deliver_due()

    ((status, answer),) = read(database, DeliveryTry.status, DeliveryTry.answer)
    assert status is None
    assert "TRAINYARD_WEBHOOK_NETWORKS" in answer
    assert "127.0.0.1" not in answer  # nobody learns our names from it
    assert hook.got == []


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("ftp://example.org", "https://"),
        ("example.org/hook", "https://"),
        ("https://", "name a host"),
        ("https://me:secret@example.org", "password"),
        ("http://10.1.2.3/", "not at a public address"),
        ("http://169.254.169.254/latest", "not at a public address"),
        ("http://[::1]:80/", "not at a public address"),
        ("http://[64:ff9b::a00:1]/", "not at a public address"),
        ("http://[2002:7f00:1::]/", "not at a public address"),
        ("http://[::ffff:10.0.0.1]/", "not at a public address"),
        ("https://example.org:99999/", "ort"),
        ("https://example.org/a b", "%XX"),
        ("https://example.org/" + "a" * 3000, "2000 characters"),
    ],
)
def test_addresses_that_can_never_be_posted_to_are_refused(address, why):
    with pytest.raises(Exception, match=why) as caught:
        webhooks.check_address(address, [])
    assert caught.value.field == "address"


def test_an_answer_that_drips_is_cut_off(ana, database, tmp_path, monkeypatch):
    monkeypatch.setattr(webhooks, "TRY_SECONDS", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))

    def drip():
        peer, _ = listener.accept()
        for byte in b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200:
            try:
                peer.sendall(bytes([byte]))
            except OSError:
                return
            time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()
    add(database, ana, f"http://127.0.0.1:{listener.getsockname()[1]}/")
    finish(database, ana)
    began = time.monotonic()

    Postman(database, make_settings(tmp_path), first_wait_seconds=60).deliver_due()

    assert time.monotonic() - began < 5
    ((answer,),) = read(database, DeliveryTry.answer)
    assert answer == "No answer within 0.5 seconds."
    listener.close()


# E-mail


def mail_settings(tmp_path, mailbox, **more):
    return make_settings(
        tmp_path,
        **{
            "smtp_host": "127.0.0.1",
            "smtp_port": mailbox.port,
            "smtp_security": "none",
            "mail_from": "Trainyard <yard@example.org>",
            **more,
        },
    )


def read_mail(mailbox):
    return [
        email.message_from_bytes(envelope.content, policy=email.policy.default)
        for envelope in mailbox.got
    ]


def test_a_mail_tells_what_happened(database, ana, tmp_path, mailbox):
    add(database, ana)
    job_id = finish(database, ana, "solar\ncells")
    make_mail_due(database)

    Postman(database, mail_settings(tmp_path, mailbox)).deliver_due()

    (message,) = read_mail(mailbox)
    assert mailbox.got[0].rcpt_tos == ["ana@example.org"]
    assert message["Subject"] == "[Trainyard] Finished: solar cells"
    assert message["From"] == "Trainyard <yard@example.org>"
    assert message["Auto-Submitted"] == "auto-generated"
    body = message.get_content()
    assert "version 1, accuracy 90.0%" in body
    assert f"https://yard.example.org/jobs/{job_id}" in body
    assert read(database, Delivery.state) == [("delivered",)]


def test_what_happens_at_once_is_one_mail(database, ana, tmp_path, mailbox):
    add(database, ana)
    for _ in range(60):
        finish(database, ana)
    end(database, ana, "failed", permanent=True)
    notifier = Postman(database, mail_settings(tmp_path, mailbox))
    assert notifier.deliver_due() == 0  # more may come in a moment
    with database.transaction() as s:  # when the first one's time has come
        first = select(func.min(Delivery.id)).scalar_subquery()
        s.execute(update(Delivery).where(Delivery.id == first).values(due_at=0))

    assert notifier.deliver_due() == 61

    (message,) = read_mail(mailbox)
    assert mailbox.got[0].rcpt_tos == ["ana@example.org"]
    assert message["Subject"] == "[Trainyard] 60 finished, 1 failed"
    assert "... and 11 more." in message.get_content()
    assert {state for (state,) in read(database, Delivery.state)} == {"delivered"}


def test_the_next_mail_comes_ten_minutes_later_at_the_earliest(
    database, ana, tmp_path, mailbox
):
    add(database, ana)
    finish(database, ana)
    make_mail_due(database)
    Postman(database, mail_settings(tmp_path, mailbox)).deliver_due()

    finish(database, ana)

    with database.reading() as s:
        now = read_clock(s)
    ((due_at,),) = read(database, func.max(Delivery.due_at))
    assert 590_000 < due_at - now <= 600_000


def test_it_signs_in_where_the_server_wants_it(sqlite_database, tmp_path):
    database, mailbox = sqlite_database, MailServer(name="yard", password="let me")
    with database.transaction() as s:
        ana = factories.make_user(s).id
    add(database, ana)
    finish(database, ana)
    make_mail_due(database)
    wrong = mail_settings(tmp_path, mailbox, smtp_user="yard", smtp_password="no")
    right = mail_settings(tmp_path, mailbox, smtp_user="yard", smtp_password="let me")

    for settings in (wrong, right):
        Postman(database, settings, first_wait_seconds=0).deliver_due()

    statuses = [row.status for row in read(database, DeliveryTry.status)]
    assert statuses == [535, 250]
    assert len(mailbox.got) == 1
    mailbox.close()


def test_a_refused_recipient_is_told_and_tried_again(sqlite_database, tmp_path):
    database, mailbox = sqlite_database, MailServer(refuse="550 no such user here")
    with database.transaction() as s:
        ana = factories.make_user(s).id
    add(database, ana)
    finish(database, ana)
    make_mail_due(database)

    Postman(database, mail_settings(tmp_path, mailbox)).deliver_due()

    assert read(database, DeliveryTry.status, DeliveryTry.answer) == [
        (550, "no such user here")
    ]
    assert read(database, Delivery.state) == [("waiting",)]
    mailbox.close()


def test_a_plain_server_gets_no_mail_that_shall_be_secret(
    sqlite_database, tmp_path, mailbox
):
    database = sqlite_database
    with database.transaction() as s:
        ana = factories.make_user(s).id
    add(database, ana)
    finish(database, ana)
    make_mail_due(database)
    settings = mail_settings(tmp_path, mailbox, smtp_security="starttls")

    Postman(database, settings).deliver_due()

    ((answer,),) = read(database, DeliveryTry.answer)
    assert "STARTTLS" in answer
    assert mailbox.got == []


def test_without_a_server_the_answer_names_the_setting(sqlite_database, tmp_path):
    database = sqlite_database
    with database.transaction() as s:
        ana = factories.make_user(s).id
    add(database, ana)
    finish(database, ana)
    make_mail_due(database)

    Postman(database, make_settings(tmp_path)).deliver_due()

    ((answer,),) = read(database, DeliveryTry.answer)
    assert "TRAINYARD_SMTP_HOST" in answer


# Keeping order


def test_what_was_sent_a_month_ago_is_forgotten(database, ana, hook, notifier):
    add(database, ana, hook.url)
    finish(database, ana)
    notifier.deliver_due()
    with database.transaction() as s:
        s.execute(update(Event).values(at=1))
        s.execute(update(Delivery).values(ended_at=1))
    finish(database, ana)

    with database.transaction() as s:
        assert delivery_store.forget_old(s) == 1

    assert len(read(database, Event.id)) == len(read(database, Delivery.id)) == 1
    assert read(database, DeliveryTry.number) == []


def test_a_test_goes_to_its_receiver_alone(database, ana, hook, notifier):
    receiver_id = add(database, ana, hook.url)
    add(database, ana, hook.url + "/other")

    with database.transaction() as s:
        announce_test(s, receiver_store.get(s, receiver_id))
        with pytest.raises(ConflictError, match="on its way"):
            announce_test(s, receiver_store.get(s, receiver_id))
    notifier.deliver_due()

    assert told(hook) == ["test"]
    with database.reading() as s:
        assert reconcile_store.find_violations(s) == []
