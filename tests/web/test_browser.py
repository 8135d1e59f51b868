"""The pages in a real browser: they look right, by keyboard, light and dark."""

import json
import os
import re
import tarfile
from datetime import UTC, datetime

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask_security.utils import hash_password
from playwright.sync_api import expect, sync_playwright

from cli.browser import MISSING, find_browser
from shared import job_read_store, job_store
from shared.artifacts import sha256_file
from shared.tables import Promise
from tests.proxy import Proxy
from tests.web.forecast_example import make_forecast
from tests.web.rows import PASSWORD, make_archive, make_told
from tests.web.served import serve, serve_here
from tests.web.test_training_promises import make_promise

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDTHS = (1280, 390)
VIOLATIONS = {"resultTypes": ["violations"]}
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
# The dark scheme changes colours and nothing else.
SCHEMES = (("light", WIDTHS, VIOLATIONS), ("dark", WIDTHS[1:], VIOLATIONS | CONTRAST))
PATIENT = {"timeout": 30_000}  # for what takes many requests on a busy machine


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


@pytest.fixture
def page(chromium, site):
    """A page on which root has signed in; anything in its console fails the test."""
    context = chromium.new_context(
        base_url=site, viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.goto("/sign-in")
    page.get_by_label("Name or e-mail address").fill("root@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs")
    yield page
    assert problems == []
    context.close()


PAGES = (
    "/jobs", "/jobs/queue", "/jobs/queue/promised", "/jobs/new", "/jobs/2", "/jobs/3",
    "/jobs/4", "/jobs/2/delete", "/groups/g", "/datasets", "/datasets/1",
    "/datasets/add", "/models", "/models/solar%20cells", "/models/solar%20cells/1",
    "/jobs/new?dataset=1", "/promises",
    "/workers", "/users", "/audit", "/account", "/notifications", "/notifications/1",
)  # fmt: skip
CHARTS = {
    "/jobs/2": "chart-loss",
    "/jobs/3": "chart-loss",
    "/jobs/queue/promised": "chart-promises",
    "/groups/g": "chart-curves",
    "/datasets/1": "chart-learning-curve",
    "/promises": "chart-promised-minutes",
}


def test_every_page_is_accessible_and_fits_its_window(page):
    axe = Axe()
    found = []
    for scheme, widths, rules in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for path in PAGES:
            for width in widths:
                page.set_viewport_size({"width": width, "height": 900})
                page.goto(path)
                over = page.evaluate("document.body.scrollWidth - innerWidth")
                if over > 0:
                    found.append(f"{path} at {width} px is {over} px too wide")
            if path in CHARTS:
                # The server's first chart waits for an import, long on a busy machine.
                chart = page.locator(f"#{CHARTS[path]} canvas").first
                expect(chart).to_be_visible(timeout=30_000)
            for violation in axe.run(page, options=rules).response["violations"]:
                nodes = "; ".join(n["html"][:200] for n in violation["nodes"][:3])
                found.append(f"{path} ({scheme}): {violation['id']}: {nodes}")

    assert found == []


def list_waiting(page):
    return page.locator("#queue tbody tr").evaluate_all(
        "rows => rows.map(row => Number(row.dataset.job))"
    )


def test_waiting_jobs_are_dragged_and_moved_by_keyboard(page):
    page.goto("/jobs/queue")
    assert list_waiting(page) == [6, 7, 8]

    third, first = (page.locator(f"tr[data-job='{n}'] .drag") for n in (8, 6))
    third.hover()
    page.mouse.down()
    page.mouse.move(0, 0)
    page.keyboard.press("Escape")
    page.mouse.up()
    assert list_waiting(page) == [6, 7, 8], "nothing was to be moved"
    third.hover()
    page.mouse.down()
    box = first.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 40, steps=5)
    page.mouse.move(box["x"] + 5, box["y"] + 1, steps=5)
    with page.expect_navigation():
        page.mouse.up()
    assert list_waiting(page) == [8, 6, 7]

    page.get_by_role("button", name="Move job 8 to the end").focus()
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert list_waiting(page) == [6, 7, 8]


def test_archives_are_sent_with_progress_and_their_names_can_be_changed(page):
    page.goto("/datasets/add")
    page.locator("#files").set_input_files(
        [
            {
                "name": "one.zip",
                "mimeType": "application/zip",
                "buffer": make_archive(1),
            },
            {
                "name": "two.zip",
                "mimeType": "application/zip",
                "buffer": make_archive(2),
            },
            {"name": "<img src=x>.txt", "mimeType": "text/plain", "buffer": b"x"},
        ]
    )
    expect(page.locator("#chosen")).to_contain_text("This is no .zip")
    expect(page.locator("#chosen img")).to_have_count(0)
    page.get_by_role("button", name="Remove <img src=x>.txt").click()
    page.get_by_label("Name for two.zip").fill("renamed")

    page.get_by_role("button", name="Upload", exact=True).click()

    page.wait_for_url("**/datasets")
    expect(page.get_by_role("link", name="one")).to_be_visible()
    expect(page.get_by_role("link", name="renamed")).to_be_visible()


@pytest.fixture
def breaking(chromium, whole_site):
    """A page of root's whose connections can be cut, and what cuts them."""
    host, port = whole_site.removeprefix("http://").split(":")
    proxy = Proxy((host, int(port)))
    context = chromium.new_context(base_url=f"http://127.0.0.1:{proxy.port}")
    page = context.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto("/sign-in")
    page.get_by_label("Name or e-mail address").fill("root@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs")
    yield page, proxy
    context.close()
    proxy.close()


def list_sources(rows):
    """What the newest dataset is read from: (type, name, path)."""
    with rows.database.reading() as session:
        newest = job_read_store.list_jobs(session, kind="ingest").items[0]
    return [
        (source["type"], source["name"], rows.storage.resolve(source["path"]))
        for source in newest.spec["sources"]
    ]


def test_an_upload_goes_on_after_breaks_and_reloads(breaking, rows, tmp_path):
    page, proxy = breaking
    archive = tmp_path / "big.zip"
    archive.write_bytes(os.urandom(20 * 2**20))
    page.goto("/datasets/add")
    proxy.lose_answer_to(b"PATCH", then=proxy.partition)
    page.locator("#files").set_input_files(archive)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.locator("#chosen")).to_contain_text("The connection broke", **PATIENT)
    expect(page.locator("#summary")).to_contain_text("continues by itself")

    proxy.cut()
    proxy.heal()
    proxy.lose_answer_to(b"Upload-Offset: 8388608", then=proxy.partition)
    expect(page.locator("#chosen")).to_contain_text(
        re.compile(r"broke at (9|1\d)\.\d"),  # some of the second piece has come
        **PATIENT,
    )
    proxy.cut()
    proxy.heal()
    page.reload()
    expect(page.locator("#unfinished")).to_contain_text("big.zip: ", **PATIENT)
    page.locator("#files").set_input_files(archive)
    expect(page.locator("#chosen")).to_contain_text("Continues at")
    expect(page.locator("#unfinished")).to_be_hidden()
    page.get_by_role("button", name="Upload", exact=True).click()

    page.wait_for_url(re.compile(r"/datasets/\d+$"))
    expect(page.locator("h1")).to_have_text("big")
    ((_, name, path),) = list_sources(rows)
    assert name == "big.zip"
    assert sha256_file(path) == sha256_file(archive)


def test_a_folder_an_archive_and_a_table_become_one_dataset(page, rows, tmp_path):
    cells = tmp_path / "cells"
    names = ["intact/1.png", "d\u00e9fectueux/2.png", f"intact/{'long' * 30}.png"]
    for name in names:
        (cells / name).parent.mkdir(parents=True, exist_ok=True)
        (cells / name).write_bytes(name.encode() * 100)
    (tmp_path / "more.zip").write_bytes(make_archive())
    (tmp_path / "labels.csv").write_text("filename,label\n1.png,good\n")
    page.goto("/datasets/add")
    page.locator("#folder").set_input_files(cells)
    expect(page.locator("#chosen")).to_contain_text("cells.tar (3 files")
    expect(page.get_by_label("one dataset each")).to_be_hidden()
    page.locator("#files").set_input_files(
        [tmp_path / "more.zip", tmp_path / "labels.csv"]
    )
    expect(page.get_by_label("one dataset together")).to_be_checked()
    page.get_by_label("Its name").fill("all of it")
    violations = Axe().run(page).response["violations"]
    assert [violation["id"] for violation in violations] == []

    page.get_by_role("button", name="Upload", exact=True).press("Enter")

    page.wait_for_url(re.compile(r"/datasets/\d+$"))
    expect(page.locator("h1")).to_have_text("all of it")
    sources = list_sources(rows)
    assert [(kind, name) for kind, name, _ in sources] == [
        ("archive", "cells.tar"), ("archive", "more.zip"), ("csv", "labels.csv"),
    ]  # fmt: skip
    with tarfile.open(sources[0][2]) as packed:
        assert sorted(packed.getnames()) == sorted(names)
        for name in names:
            assert packed.extractfile(name).read() == name.encode() * 100


def test_an_upload_is_paused_continued_and_discarded(breaking, tmp_path):
    page, proxy = breaking
    archive = tmp_path / "big.zip"
    archive.write_bytes(os.urandom(20 * 2**20))
    page.goto("/datasets/add")
    proxy.lose_answer_to(b"PATCH", then=proxy.partition)
    page.locator("#files").set_input_files(archive)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.locator("#chosen")).to_contain_text("The connection broke", **PATIENT)
    page.get_by_role("button", name="Pause big.zip").click()
    expect(page.locator("#chosen")).to_contain_text("Paused at")
    expect(page.get_by_role("button", name="Continue big.zip")).to_be_visible()
    proxy.cut()
    proxy.heal()
    page.reload()
    expect(page.locator("#unfinished")).to_contain_text("8.0 MiB of 20.0", **PATIENT)

    page.get_by_role("button", name="Discard big.zip").click()

    expect(page.locator("#unfinished")).to_be_hidden()
    page.reload()
    expect(page.locator("#summary")).to_have_text("")
    page.locator("#files").set_input_files(archive)
    page.get_by_role("button", name="Upload", exact=True).click()
    page.wait_for_url(re.compile(r"/datasets/\d+$"))


def test_what_a_cancelled_job_was_given_need_not_come_again(page, rows, tmp_path):
    archive = tmp_path / "cells.zip"
    archive.write_bytes(make_archive())

    def upload():
        page.locator("#files").set_input_files(archive)
        page.get_by_role("button", name="Upload", exact=True).click()
        page.wait_for_url(re.compile(r"/datasets/\d+$"))
        with rows.database.reading() as session:
            return job_read_store.list_jobs(session, kind="ingest").items[0].id

    page.goto("/datasets/add")
    first, before = upload(), list_sources(rows)
    with rows.database.transaction() as session:
        job_store.cancel(session, first, actor="user:1")
    page.goto("/datasets/add")
    expect(page.locator("#unfinished")).to_contain_text(
        f"all of it has come. Job {first} made no dataset of it"
    )

    second = upload()

    assert second != first
    assert list_sources(rows) == before


@pytest.fixture
def offered(roots, monkeypatch):
    """A folder of the server that it offers; named before `page`, which starts it."""
    monkeypatch.setenv("TRAINYARD_DATASET_ROOTS", json.dumps([str(roots)]))
    return roots


def test_a_table_alone_asks_where_its_pictures_lie(offered, page, rows, tmp_path):
    (tmp_path / "list.csv").write_text("filename,label\n1.png,good\n")
    page.goto("/datasets/add")
    root = page.locator("#upload-root")
    expect(root).to_be_hidden()
    expect(page.locator("#unchecked")).to_be_hidden()
    page.locator("#files").set_input_files(tmp_path / "list.csv")
    root.fill(str(offered))
    violations = Axe().run(page).response["violations"]
    assert [violation["id"] for violation in violations] == []

    page.get_by_role("button", name="Upload", exact=True).click()

    page.wait_for_url(re.compile(r"/datasets/\d+$"))
    expect(page.locator("h1")).to_have_text("list")
    with rows.database.reading() as session:
        newest = job_read_store.list_jobs(session, kind="ingest").items[0]
    assert [source["root"] for source in newest.spec["sources"]] == [str(offered)]


def test_a_browser_that_can_check_nothing_says_so(page):
    page.add_init_script("Object.defineProperty(crypto, 'subtle', {value: undefined})")
    page.goto("/datasets/add")

    expect(page.locator("#unchecked")).to_contain_text("came over plain http")


def test_the_form_says_how_many_jobs_it_makes(page):
    page.goto("/jobs/new")
    expect(page.locator("#tally")).to_have_text("Choose a dataset.")
    expect(page.locator("#go")).to_be_disabled()
    page.get_by_label("solar cells").check()
    page.get_by_label(re.compile("^best")).check()

    expect(page.locator("#tally")).to_contain_text("This makes 2 jobs")

    page.locator("#go").dblclick()
    page.wait_for_url("**/groups/*")
    expect(page.locator("h1")).to_have_text("Submission of 2 jobs")


@pytest.fixture
def berlin(chromium, site):
    """A page in Berlin on which root has signed in."""
    context = chromium.new_context(base_url=site, timezone_id="Europe/Berlin")
    page = context.new_page()
    page.goto("/sign-in")
    page.get_by_label("Name or e-mail address").fill("root@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs")
    yield page
    context.close()


def test_a_sweep_is_filled_in_counted_mended_and_submitted(berlin, rows):
    page = berlin
    page.goto("/jobs/new")
    page.get_by_label("solar cells").check()
    expect(page.get_by_label("Priority")).to_be_hidden()
    page.get_by_text("When and where", exact=True).click()
    expect(page.locator("#zone-words")).to_contain_text("Europe/Berlin")
    page.get_by_label("Not before").fill("2100-07-01T12:30")  # summer time: UTC+2
    page.get_by_label("Priority").fill("101")
    page.get_by_text("Sweep", exact=True).click()
    for place, (setting, text) in enumerate(
        [("seed", "1, 2, 3"), ("optimizer", "adam, sgd"), ("mixup", "0.1:0.9")]
    ):
        page.locator(f"#sweep-{place}").select_option(setting)
        page.locator(f"[name='sweep.{place}.values']").fill(text)
    page.get_by_role("button", name="Add a setting").click()
    expect(page.locator("#sweep-3")).to_be_focused()
    page.keyboard.type("head.drop")
    page.locator("[name='sweep.3.values']").fill("0.1, 0.5")
    expect(page.locator("#h-sweep\\.3")).to_contain_text("Share of inputs dropped")
    expect(page.locator("[name='sweep.2.how']")).to_have_value("drawn")
    page.get_by_label("Trials").fill("200")
    expect(page.locator("#tally")).to_contain_text("Asked for: 2400")
    page.get_by_label("Trials").fill("2")
    expect(page.locator("#tally")).to_contain_text("This makes 24 jobs")
    expect(page.locator("#tally")).to_contain_text("24 in the sweep")

    page.locator("#go").click()
    expect(page.locator("#e-priority")).to_contain_text("less than or equal to 100")
    expect(page.get_by_label("Not before")).to_have_value("2100-07-01T12:30")
    expect(page.locator("[name='sweep.3.values']")).to_have_value("0.1, 0.5")
    violations = Axe().run(page).response["violations"]
    assert [violation["id"] for violation in violations] == []
    page.get_by_label("Priority").fill("100")
    expect(page.locator("#tally")).to_contain_text("This makes 24 jobs")
    page.locator("#go").click()

    page.wait_for_url("**/groups/*")
    expect(page.locator("h1")).to_have_text("Submission of 24 jobs")
    heads = page.locator("#group-columns th").all_inner_texts()
    assert heads[1:5] == ["head.dropout", "mixup", "optimizer", "seed"]
    with rows.database.reading() as session:
        newest = job_read_store.list_jobs(session, kind="train").items[0]
    assert (
        newest.not_before == datetime(2100, 7, 1, 10, 30, tzinfo=UTC).timestamp() * 1e3
    )
    assert newest.priority == 100


def test_the_table_changes_by_itself_and_keeps_the_focus(page, rows):
    page.goto("/jobs")
    page.locator("#job-link-3").focus()

    rows.job(1, 1, "a job from elsewhere")

    expect(page.get_by_role("link", name="a job from elsewhere")).to_be_visible()
    expect(page.locator("#job-link-3")).to_be_focused()


def test_a_job_is_cancelled_by_keyboard(page):
    page.goto("/jobs/3")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")

    expect(page.locator("#job-state")).to_contain_text("cancelling")


def test_a_submission_offers_its_models_as_soon_as_there_are_some(page, rows):
    page.goto("/groups/g")
    expect(page.locator("#to-archives")).to_contain_text("Download the model")

    page.locator("#job-link-3").focus()
    rows.publish(rows.job(1, 1, "one more", group_key="g"))

    expect(page.locator("#to-archives")).to_contain_text("all 2 models")
    expect(page.locator("#job-link-3")).to_be_focused()


def list_compared(page):
    return page.locator("#comparison tbody tr").evaluate_all(
        "rows => rows.map(row => Number(row.id.slice(4)))"
    )


def test_a_comparison_is_sorted_by_keyboard_and_stays_so(page, rows):
    page.goto("/groups/g")
    assert list_compared(page) == [2, 3], "what has a result comes first"

    page.get_by_role("link", name="Job", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/groups/g?sort=job")
    page.get_by_role("link", name="Job", exact=True).press("Enter")
    page.wait_for_url("**/groups/g?sort=-job")

    header = page.locator("th[aria-sort]")
    expect(header).to_have_count(1)
    expect(header).to_have_attribute("aria-sort", "descending")
    assert list_compared(page) == [3, 2]
    new = rows.job(1, 1, "one more", group_key="g")
    expect(page.locator(f"#job-link-{new}")).to_be_visible()
    assert list_compared(page) == [new, 3, 2]


def test_a_row_moves_up_when_it_has_become_the_best(page, rows):
    late = [rows.job(1, 1, "late", "h", model="h", seed=seed) for seed in (1, 2)]
    page.goto("/groups/h")
    assert list_compared(page) == late
    page.locator(f"#job-link-{late[1]}").focus()

    with rows.database.transaction() as s:
        job_store.set_priority(s, late[1], 100, "user:1")
    rows.publish(late[1])

    expect(page.locator(f"#job-{late[1]}")).to_contain_text("Best")
    assert list_compared(page) == late[::-1]
    expect(page.locator(f"#job-link-{late[1]}")).to_be_focused()
    # The server's first chart waits for an import, long on a busy machine.
    expect(page.locator("#curve-keys li")).to_have_count(1, timeout=30_000)


def test_the_theme_is_switched_and_remembered(page):
    page.emulate_media(color_scheme="light")
    page.goto("/jobs")
    page.get_by_role("button", name="Switch between light and dark").click()
    page.goto("/datasets")

    assert page.evaluate("document.documentElement.dataset.bsTheme") == "dark"


def test_pages_work_without_script(chromium, site):
    context = chromium.new_context(base_url=site, java_script_enabled=False)
    page = context.new_page()
    page.goto("/sign-in")
    page.fill("#email", "root@example.org")
    page.fill("#password", PASSWORD)
    page.click("main button")
    page.goto("/datasets/add")
    page.locator("#files").set_input_files(
        {"name": "plain.zip", "mimeType": "application/zip", "buffer": make_archive()}
    )
    page.click("#send")

    expect(page.locator("h1")).to_have_text("plain")
    page.goto("/jobs/new")
    page.get_by_label("solar cells").check()
    page.click("#sweep summary")
    page.locator("#sweep-2").select_option("seed")
    page.fill("[name='sweep.2.values']", "1, 2")
    page.click("#go")
    expect(page.locator("h1")).to_have_text("Submission of 2 jobs")
    page.goto("/groups/g")
    page.click("#comparison th a:has-text('Job')")
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Job")
    context.close()


def test_charts_of_a_forecast_hold_what_their_tables_say(page):
    page.goto("/datasets/1")
    expect(page.locator("#chart-learning-curve canvas").first).to_be_visible(
        timeout=30_000
    )

    drawn = page.evaluate(
        "trainyardCharts.models().find(m => m.name === 'points').data.images"
    )
    rows = page.locator("#curve tbody tr")

    assert list(drawn) == [42, 105, 210, 420]
    expect(rows).to_have_count(5)
    expect(page.locator("#confusions img").first).to_have_js_property(
        "naturalWidth", 96
    )


def test_the_form_tells_what_to_expect_and_warns_without_refusing(page, rows):
    presets = make_forecast()["presets"]
    presets["best"]["disk_bytes"] = {"total": 2**60}
    rows.forecast(1, 1, presets=presets)
    page.goto("/jobs/new")
    expect(page.locator("#expected")).to_be_empty()

    page.get_by_label("solar cells").check()
    expect(page.locator("#expected")).to_contain_text("84\N{EN DASH}91 %")
    expect(page.locator("#go")).to_have_text("Submit")
    page.get_by_label(re.compile("^best")).check()
    expect(page.locator("#shortages")).to_contain_text("are missing")
    expect(page.locator("#go")).to_have_text("Submit 2 jobs anyway")
    assert Axe().run(page).response["violations"] == []

    chosen = page.locator("input[name='base_model']:checked")
    assert chosen.evaluate_all("all => all.map(b => b.value)") == ["EfficientNetLite0"]
    page.get_by_role("button", name="Use EfficientNetLite1").click()
    assert chosen.evaluate_all("all => all.map(b => b.value)") == ["EfficientNetLite1"]
    expect(page.locator("#expected")).not_to_contain_text("told these pictures apart")
    page.locator("#go").click()

    page.wait_for_url("**/groups/*")
    expect(page.locator("main")).to_contain_text("Submitted, but:")
