"""Receivers on their page and in the API, and what was sent to them."""

import base64
import hashlib
import hmac
import ipaddress
import json

import pytest

from shared.notifications.event_store import Channel
from shared.notifications.notifier import Notifier
from tests.receivers import HookServer

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
HOOK = {"channel": "webhook", "kinds": ["job.finished"]}


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"webhook_networks": LOOPBACK})


@pytest.fixture
def hook():
    server = HookServer(500, 200)
    yield server
    server.close()


@pytest.fixture
def notifier(app):
    here = app.extensions["trainyard"]
    return Notifier(here.database, here.settings, first_wait_seconds=0)


@pytest.fixture
def publish(rows, ana):
    dataset = rows.dataset(ana.user_id)

    def make(title="solar cells"):
        job = rows.job(ana.user_id, dataset, title)
        rows.publish(job)
        return job

    return make


def test_a_webhook_added_on_the_page_hears_of_a_job(ana, hook, notifier, publish, api):
    page = ana.send(
        "/notifications", "/notifications", address=hook.url, **HOOK
    ).headers["location"]
    job = publish()
    notifier.deliver_due(Channel.WEBHOOK)

    html = ana.get(page).text
    assert "status 500 it is" in html
    assert "next try" in html
    notifier.deliver_due(Channel.WEBHOOK)

    html = ana.get(page).text
    assert "2 tries" in html
    assert f'href="/jobs/{job}">solar cells' in html
    assert "taken" in html
    (receiver,) = api(ana.user_id)("GET", "/notifications").json["items"]
    assert (receiver["delivered"], receiver["waiting"]) == (1, 0)


def test_the_secret_that_the_api_tells_is_the_one_that_signs(
    ana, hook, notifier, publish, api
):
    ask = api(ana.user_id)
    body = {**HOOK, "address": hook.url}

    receiver = ask("POST", "/notifications", json=body).json
    publish()
    notifier.deliver_due(Channel.WEBHOOK)

    ((headers, body),) = hook.got
    key = base64.b64decode(receiver["secret"].removeprefix("whsec_"))
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert receiver["secret"] not in json.dumps(
        ask("GET", "/notifications").json
    )  # only where it is asked for


def test_a_test_is_sent_and_sent_again(ana, hook, notifier, api):
    ask = api(ana.user_id)
    number = ask("POST", "/notifications", json={**HOOK, "address": hook.url}).json[
        "id"
    ]

    sent = ask("POST", f"/notifications/{number}/test")
    for _ in range(2):
        notifier.deliver_due(Channel.WEBHOOK)
    ask("POST", f"/deliveries/{sent.json['delivery_id']}/again")
    notifier.deliver_due(Channel.WEBHOOK)

    assert sent.status_code == 202
    (delivery,) = ask("GET", f"/notifications/{number}/deliveries").json["items"]
    assert [one["status"] for one in delivery["tries"]] == [200, 200, 500]
    assert delivery["state"] == "delivered"
    assert delivery["kind"] == "test"


def test_others_neither_see_nor_touch_a_receiver(ana, root, rows, hook, api):
    mine = api(ana.user_id)
    number = mine("POST", "/notifications", json={**HOOK, "address": hook.url}).json[
        "id"
    ]
    sent = mine("POST", f"/notifications/{number}/test").json["delivery_id"]

    theirs = api(root.user_id)  # admins, too: addresses may be secrets
    answers = [
        theirs("GET", f"/notifications/{number}"),
        theirs("GET", f"/notifications/{number}/deliveries"),
        theirs("POST", f"/notifications/{number}/test"),
        theirs("POST", f"/deliveries/{sent}/again"),
        theirs("DELETE", f"/notifications/{number}"),
    ]

    assert {answer.status_code for answer in answers} == {404}
    assert root.get(f"/notifications/{number}").status_code == 404
    assert mine("DELETE", f"/notifications/{number}").status_code == 204
    assert mine("GET", "/notifications").json["items"] == []


def test_only_admins_hear_of_others_jobs(ana, root, hook, api):
    body = {**HOOK, "address": hook.url, "everyones": True}

    assert api(ana.user_id)("POST", "/notifications", json=body).status_code == 403
    assert api(root.user_id)("POST", "/notifications", json=body).status_code == 201
    assert "Other users" in root.get("/notifications").text
    assert "Other users" not in ana.get("/notifications").text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"address": "http://10.0.0.1/"}, "address"),
        ({"address": "nowhere"}, "address"),
        ({"kinds": []}, "kinds"),
        ({"kinds": ["job.exploded"]}, "kinds"),
        ({"channel": "email"}, "channel"),  # no mail server is set
    ],
)
def test_what_cannot_be_is_named(ana, api, change, field):
    body = {**HOOK, "address": "https://example.org/hook", **change}

    answer = api(ana.user_id)("POST", "/notifications", json=body)

    assert answer.status_code == 400
    assert answer.json["field"] == field
    assert field in answer.json["detail"] or "TRAINYARD_SMTP" in answer.json["detail"]


def test_a_refused_form_keeps_what_was_typed(ana):
    answer = ana.send(
        "/notifications", "/notifications", channel="webhook",
        address="ftp://example.org", kinds="job.failed",
    )  # fmt: skip

    assert answer.status_code == 400
    assert "ftp://example.org" in answer.text
    assert "must begin with https" in answer.text
    assert 'value="job.failed" checked' in answer.text
    assert 'value="job.stalled" checked' not in answer.text.split("mail-title")[0]


def test_there_is_a_most(ana, api):
    ask = api(ana.user_id)
    bodies = [{**HOOK, "address": f"https://example.org/{n}"} for n in range(21)]

    codes = [ask("POST", "/notifications", json=body).status_code for body in bodies]

    assert codes == [201] * 20 + [409]
    assert ask("POST", "/notifications", json=bodies[0]).status_code == 201  # the same


def test_mail_goes_to_ones_own_address_alone(app, ana, api):
    here = app.extensions["trainyard"]
    more = {"smtp_host": "127.0.0.1", "mail_from": "yard@example.org"}
    object.__setattr__(here, "settings", here.settings.model_copy(update=more))
    ask = api(ana.user_id)
    body = {"channel": "email"}

    mine = ask("POST", "/notifications", json=body)
    others = ask("POST", "/notifications", json={**body, "address": "bob@example.org"})

    assert mine.json["address"] == "ana@example.org"
    assert mine.json["secret"] is None
    assert others.status_code == 400
    assert "To ana@example.org" in ana.get("/notifications").text


def test_the_audit_tells_of_receivers_without_their_addresses(ana, root, hook, api):
    number = api(ana.user_id)(
        "POST", "/notifications", json={**HOOK, "address": hook.url}
    ).json["id"]

    (line,) = api(root.user_id)(
        "GET", f"/audit?object_type=receiver&object_id={number}"
    ).json["items"]

    assert line["event"] == "receiver_added"
    assert hook.url not in json.dumps(line)
