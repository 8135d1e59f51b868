"""The whole path in a real browser: from the one-time link to a loaded SavedModel."""

import re
import subprocess
import sys
import zipfile

import pytest
from playwright.sync_api import expect, sync_playwright

from cli.browser import MISSING, find_browser
from tests.end_to_end.running_platform import TINY, draw, write_archive

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(600)]
PASSWORD = "correct horse battery staple"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TRAINING_MS = 400_000


@pytest.fixture
def page(platform):
    path = find_browser()
    assert path is not None, MISSING
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        context = browser.new_context(
            base_url=platform.state["url"], accept_downloads=True
        )
        page = context.new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda line: _keep_error(page, line))
        yield page
        browser.close()


def _keep_error(page, line):
    if line.type == "error":
        page.problems.append(line.text)


def sign_in(page, link):
    page.goto(link)
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Save and sign in").click()
    expect(page.get_by_role("link", name="Datasets").first).to_be_visible()


def upload(page, *archives):
    page.goto("/datasets/add")
    page.locator("#files").set_input_files([str(path) for path in archives])
    page.get_by_role("button", name="Upload", exact=True).click()
    page.wait_for_url("**/datasets")
    for path in archives:
        row = page.get_by_role("row").filter(has_text=path.stem)
        expect(row).to_contain_text("ready", ignore_case=True, timeout=200_000)


def submit_all(page, names):
    page.goto("/jobs/new")
    for name in names:
        page.get_by_role("checkbox", name=re.compile(f"^{name} ?[0-9]")).check()
    page.locator("summary", has_text="Advanced settings").click()
    for name, value in TINY.items():
        page.locator(f"#f-{name}").fill(str(value))
    expect(page.locator("#tally")).to_contain_text("2 jobs")
    page.locator("#go").click()


def test_two_archives_become_two_models_that_load_anywhere(platform, page, tmp_path):
    shapes = write_archive(tmp_path / "shapes.zip", ["stripes", "rings"])
    grounds = write_archive(tmp_path / "grounds.zip", ["rings", "noise"], seed=500)

    sign_in(page, platform.state["sign_in"])
    upload(page, shapes, grounds)
    submit_all(page, ["shapes", "grounds"])
    download = page.get_by_role("link", name="Download all 2 models")
    watch_until_both_succeeded(page, platform)
    page.reload()
    with page.expect_download() as started:
        download.click()
    started.value.save_as(tmp_path / "models.zip")

    assert page.problems == []
    for name, label in (("shapes", "stripes"), ("grounds", "noise")):
        picture = tmp_path / f"{label}.jpg"
        picture.write_bytes(draw(label, seed=99_999))
        answer = classify(tmp_path / "models.zip", name, picture, tmp_path / name)
        assert f"{label}.jpg: {label} (" in answer


def watch_until_both_succeeded(page, platform):
    jobs = page.locator("tr", has=page.locator("[id^=job-link-]"))
    expect(jobs).to_have_count(2)
    for index in range(2):
        expect(jobs.nth(index)).to_contain_text(
            "succeeded", ignore_case=True, timeout=TRAINING_MS
        )
    states = {job["state"] for job in platform.client.list_jobs(kind="train")["items"]}
    assert states == {"succeeded"}


def classify(archive, name, picture, folder):
    """Runs the example that lies in the downloaded archive, without our code."""
    with zipfile.ZipFile(archive) as both:
        inner = next(member for member in both.namelist() if name in member)
        both.extract(inner, folder)
    with zipfile.ZipFile(folder / inner) as model:
        model.extractall(folder / "model")
    example = next((folder / "model").rglob("load_example.py"))
    run = subprocess.run(
        [sys.executable, "-I", str(example), str(picture)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
