"""Who comes in, and how: passwords, links, roles, form tokens, limits."""

import pytest

from shared import user_store
from tests.web.rows import PASSWORD
from web.auth.sign_in import name_storage


def make_link(rows, **values):
    with rows.database.transaction() as session:
        return user_store.create_link(session, **values)


def test_the_right_password_leads_to_the_jobs(person, make_user):
    make_user("ana@example.org")

    answer = person.sign_in("Ana@Example.org ")

    assert answer.location == "/"
    assert person.get("/jobs").status_code == 200


@pytest.mark.parametrize("email", ["ana@example.org", "nobody@example.org"])
def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(
    person, make_user, email
):
    make_user("ana@example.org")

    answer = person.sign_in(email, "not the password")

    assert "do not belong together" in answer.text
    assert person.get("/jobs").status_code == 302


def test_a_disabled_user_stays_outside(person, make_user, rows):
    user_id = make_user("ana@example.org")
    person.sign_in("ana@example.org")
    with rows.database.transaction() as session:
        user_store.set_active(session, user_id, active=False)

    assert person.get("/jobs").status_code == 302
    assert person.sign_in("ana@example.org").status_code == 200


def test_guessing_is_slowed_down(person):
    for _ in range(10):
        person.sign_in("ana@example.org", "guess")

    assert person.sign_in("ana@example.org", "guess").status_code == 429


def test_a_form_without_its_token_is_refused(ana):
    answer = ana.post("/account/tokens", data={"name": "x"})

    assert answer.status_code == 400
    assert "too old" in answer.text


@pytest.mark.parametrize("purpose", ["first", "invite"])
def test_a_link_lets_a_new_user_in_once(person, rows, purpose):
    raw = make_link(rows, purpose=purpose, email="eva@example.org", role="admin")
    page = f"/links/{raw}"
    assert person.get(page).status_code == 200
    values = {"password": PASSWORD, "again": PASSWORD, "email": "other@example.org"}

    assert person.send(page, page, **values).location == "/"

    assert "eva@example.org" in person.get("/jobs").text
    assert person.get(page).status_code == 404


@pytest.mark.parametrize(
    ("password", "again", "words"),
    [("short", "short", "at least 10"), (PASSWORD, PASSWORD + "x", "differ")],
)
def test_a_bad_password_does_not_use_the_link_up(person, rows, password, again, words):
    raw = make_link(rows, purpose="invite", email="eva@example.org", role="member")
    page = f"/links/{raw}"

    answer = person.send(page, page, password=password, again=again)

    assert answer.status_code == 400
    assert words in answer.text
    assert person.get(page).status_code == 200


def test_a_reset_ends_every_session_of_the_user(root, ana, person, rows):
    answer = root.send(f"/users/{ana.user_id}/reset", "/users")
    page = "/links/" + answer.text.split("/links/")[1].split("<")[0]

    person.send(page, page, password="another phrase", again="another phrase")

    assert person.get("/jobs").status_code == 200
    assert ana.get("/jobs").status_code == 302


def test_changing_ones_password_keeps_this_session_only(app, ana):
    elsewhere = app.test_client()
    elsewhere.sign_in("ana@example.org")

    ana.send(
        "/account/password", current=PASSWORD, password="another phrase",
        again="another phrase",
    )  # fmt: skip

    assert ana.get("/jobs").status_code == 200
    assert elsewhere.get("/jobs").status_code == 302


def test_the_present_password_is_asked_for(ana):
    ana.send("/account/password", current="no", password="another one", again="x")

    assert "current password is not right" in ana.get("/account").text


def test_an_api_token_is_shown_once_and_can_be_revoked(app, ana):
    shown = ana.send("/account/tokens", name="laptop").text
    raw = shown.split('id="new-token">')[1].split("<")[0]
    headers = {"Authorization": f"Bearer {raw}"}
    assert app.test_client().get("/api/v1/jobs", headers=headers).status_code == 200
    assert raw not in ana.get("/account").text

    ana.send("/account/tokens/1/revoke")

    assert app.test_client().get("/api/v1/jobs", headers=headers).status_code == 401


def test_users_are_for_admins(ana, root):
    assert ana.get("/users").status_code == 403
    assert root.get("/users").status_code == 200


def test_an_admin_cannot_shut_themselves_out(root):
    page = f"/users/{root.user_id}/active"

    assert root.send(page, "/users", active="").status_code == 400


def test_an_admin_limits_what_a_user_may_have(root, ana, rows):
    path = f"/users/{ana.user_id}/limits"

    root.send(path, path, running="2", waiting="")

    html = root.get(path).text
    assert 'name="running" inputmode="numeric" value="2"' in html
    assert 'name="waiting" inputmode="numeric" value=""' in html
    assert ana.get(path).status_code == 403
    with rows.database.reading() as s:
        assert user_store.get_user(s, ana.user_id).max_running == 2


@pytest.mark.parametrize("value", ["0", "two", "-1", "1.5", "9" * 30])
def test_an_odd_limit_is_named_and_kept_in_its_field(root, ana, value):
    path = f"/users/{ana.user_id}/limits"

    answer = root.send(path, path, running=value)

    assert answer.status_code == 400
    assert "`running` must be" in answer.text
    assert f'value="{value}"' in answer.text


def test_cookies_and_headers_are_strict(person):
    answer = person.get("/sign-in")

    assert "HttpOnly" in answer.headers["Set-Cookie"]
    assert "SameSite=Lax" in answer.headers["Set-Cookie"]
    assert "script-src 'self';" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_signing_out_needs_a_post_and_ends_the_session(ana):
    assert ana.get("/sign-out").status_code == 405

    ana.send("/sign-out")

    assert ana.get("/jobs").status_code == 302


def test_sign_in_does_not_lead_to_other_sites(person, make_user):
    make_user("ana@example.org")

    answer = person.send(
        "/sign-in", "/sign-in", email="ana@example.org", password=PASSWORD,
        next="https://evil.example/",
    )  # fmt: skip

    assert answer.status_code == 200 or "evil" not in answer.location


@pytest.mark.parametrize(
    ("redis_url", "storage"),
    [
        (None, None),
        ("redis://broker:6379/1", "redis://broker:6379/1"),
        ("redis+socket:///run/b.sock?virtual_host=2", "redis+unix:///run/b.sock?db=2"),
        ("redis+socket:///run/b.sock", "redis+unix:///run/b.sock?db=0"),
    ],
)
def test_the_limits_are_kept_in_the_broker_wherever_it_listens(redis_url, storage):
    assert name_storage(redis_url) == storage
