"""Notifications by e-mail."""

import email

from sqlalchemy import func, select, update

from shared.database import read_clock
from shared.notifications.tables import Delivery, DeliveryTry
from tests import factories
from tests.receivers import MailServer
from tests.shared.notifications.posting import (
    Postman,
    add,
    end,
    finish,
    make_mail_due,
    make_settings,
    read,
)


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
