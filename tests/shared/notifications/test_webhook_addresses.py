"""Where webhooks may go, and how long an answer may take."""

import socket
import threading
import time

import pytest

from shared.notifications import (
    webhooks,
)
from shared.notifications.tables import DeliveryTry
from tests import factories
from tests.shared.notifications.posting import (
    Postman,
    add,
    finish,
    make_settings,
    read,
)


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
