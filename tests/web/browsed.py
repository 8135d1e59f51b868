"""A browser, an installation with rows of every kind, and a page of its root."""

import pytest
from flask_security.utils import hash_password
from playwright.sync_api import sync_playwright

from cli.browser import MISSING, find_browser
from shared import job_store
from shared.tables import Promise
from tests.web.rows import PASSWORD, make_told
from tests.web.served import serve, serve_here
from tests.web.test_training_promises import make_promise

WIDTHS = (1280, 390)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    path = find_browser()
    assert path is not None, MISSING
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def site(app, rows):
    """An installation with rows of every kind; returns its address."""
    furnish(app, rows)
    with serve_here(app) as address:
        yield address


@pytest.fixture
def whole_site(settings, app, rows, tmp_path):
    """The same behind gunicorn, where connections matter."""
    furnish(app, rows)
    with serve(settings, tmp_path / "web.log") as (address, _):
        yield address


def furnish(app, rows):
    with app.test_request_context():
        owner = rows.user("root@example.org", "admin", hash_password(PASSWORD))
    rows.worker(base_models=make_told(["EfficientNetLite0"]))
    rows.worker("far gpu", base_models=make_told(["MobileNet"], download=True))
    dataset = rows.dataset(owner, "solar cells", skipped=60)
    rows.publish(rows.job(owner, dataset, "solar cells", group_key="g"))  # job 2
    rows.run(rows.job(owner, dataset, "running", group_key="g"))  # job 3
    rows.fail(rows.job(owner, dataset, "failed"))
    rows.reading(owner, "being read")
    rows.receiver(owner, "https://hooks.example.org/trainyard")  # 1
    waiting = [rows.job(owner, dataset, name) for name in ("first", "second", "third")]
    with rows.database.transaction() as s:
        for job in waiting:  # 6 to 8, behind what tests submit
            job_store.set_priority(s, job, -1, "user:1")
    with rows.database.transaction() as s:
        s.add_all(
            Promise(job_id=job, fence=0, made_at=1, starts_at=60_000, ends_at=None)
            for job in (2, 3)
        )
        s.add_all(make_promise(number) for number in range(1, 7))
    rows.forecast(owner, dataset)


@pytest.fixture(name="page")
def root_page(chromium, site):
    """A page on which root has signed in; anything in its console fails the test."""
    context = chromium.new_context(
        base_url=site, viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    sign_in(page)
    yield page
    assert problems == []
    context.close()


def sign_in(page):
    """Signs root in."""
    page.goto("/sign-in")
    page.get_by_label("Name or e-mail address").fill("root@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs")
