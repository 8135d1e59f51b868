"""Uploads in a real browser: with progress, through broken connections, together."""

import json
import os
import re
import tarfile

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from shared import job_read_store, job_store
from shared.artifacts import sha256_file
from tests.proxy import Proxy
from tests.web.browsed import sign_in
from tests.web.rows import make_archive

PATIENT = {"timeout": 30_000}  # for what takes many requests on a busy machine


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
    sign_in(page)
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


def start_broken_upload(page, proxy, folder):
    """Returns the archive whose first piece came, and whose answer did not."""
    archive = folder / "big.zip"
    archive.write_bytes(os.urandom(20 * 2**20))
    page.goto("/datasets/add")
    proxy.lose_answer_to(b"PATCH", then=proxy.partition)
    page.locator("#files").set_input_files(archive)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.locator("#chosen")).to_contain_text("The connection broke", **PATIENT)
    return archive


def test_an_upload_goes_on_after_breaks_and_reloads(breaking, rows, tmp_path):
    page, proxy = breaking
    archive = start_broken_upload(page, proxy, tmp_path)
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
    archive = start_broken_upload(page, proxy, tmp_path)
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


def test_a_taken_name_is_told_and_another_one_will_do(breaking, tmp_path):
    page, _ = breaking  # the browser's own console tells of each refusal
    archive = tmp_path / "cells.zip"
    archive.write_bytes(make_archive())
    upload = page.get_by_role("button", name="Upload", exact=True)
    page.goto("/datasets/add")
    page.locator("#files").set_input_files(archive)
    upload.click()
    page.wait_for_url(re.compile(r"/datasets/\d+$"))
    page.goto("/datasets/add")
    page.locator("#files").set_input_files(archive)

    upload.click()

    expect(page.locator("#chosen")).to_contain_text(
        "cells.zip: There is already a dataset called 'cells'. Choose another name."
    )
    expect(page.locator("#summary")).to_contain_text("0 of 1 received")
    page.get_by_label("Name for cells.zip").fill("more cells")
    upload.click()
    page.wait_for_url(re.compile(r"/datasets/\d+$"))
    expect(page.locator("h1")).to_have_text("more cells")


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
