"""The pages in a real browser: they look right, by keyboard, light and dark."""

import re
from datetime import UTC, datetime

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from shared import job_read_store, job_store
from tests.web.browsed import WIDTHS, sign_in
from tests.web.forecast_example import make_forecast
from tests.web.rows import PASSWORD, make_archive

VIOLATIONS = {"resultTypes": ["violations"]}
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
# The dark scheme changes colours and nothing else.
SCHEMES = (("light", WIDTHS, VIOLATIONS), ("dark", WIDTHS[1:], VIOLATIONS | CONTRAST))

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
    sign_in(page)
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
