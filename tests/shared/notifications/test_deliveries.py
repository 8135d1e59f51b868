"""Notifications are delivered at least once, tried again, and answered."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, text, update

from shared import reconcile_store
from shared.database import Database
from shared.errors import ConflictError
from shared.notifications import (
    delivery_store,
    receiver_store,
    webhooks,
)
from shared.notifications.event_store import announce_test
from shared.notifications.tables import Delivery, DeliveryTry, Event, Receiver
from tests import factories
from tests.receivers import HookServer
from tests.services import wait_until
from tests.shared.notifications.posting import (
    Postman,
    add,
    finish,
    make_settings,
    read,
    take,
    told,
)


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
