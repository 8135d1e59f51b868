"""Archives come whole, in ranges, by digest, and many in one."""

import hashlib
import io
import zipfile

import pytest

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def published(ana, rows):
    """A version of the model `solar cells`; returns its digest."""
    job = rows.job(ana.user_id, rows.dataset(ana.user_id), "solar cells")
    return rows.publish(job, content=CONTENT)[0]


@pytest.fixture
def get(api, ana, published):
    """Asks the API for the archive."""
    path = "/models/solar cells/versions/{}/archive"
    return lambda version=1, **h: api(ana.user_id)(
        "GET", path.format(version), headers=h
    )


def test_an_archive_comes_with_length_digest_and_name(get, published):
    answer = get()

    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["ETag"] == f'"{published}"'
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert "filename=solar_cells-1.zip" in answer.headers["Content-Disposition"]
    assert hashlib.sha256(answer.data).hexdigest() == published


def test_latest_is_the_newest_version(get):
    assert get("latest").data == CONTENT


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-9", 0, 9), ("1000-", 1000, len(CONTENT) - 1), ("-5", len(CONTENT) - 5, None)],
)
def test_a_range_is_answered_alone(get, asked, first, last):
    answer = get(Range=f"bytes={asked}")

    last = len(CONTENT) - 1 if last is None else last
    assert answer.status_code == 206
    assert answer.data == CONTENT[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"


def test_a_range_beyond_the_end_is_refused(get):
    answer = get(Range=f"bytes={len(CONTENT)}-")

    assert answer.status_code == 416


def test_a_range_of_another_file_brings_the_whole_one(get):
    answer = get(Range="bytes=5-", **{"If-Range": '"something else"'})

    assert answer.status_code == 200
    assert answer.data == CONTENT


def test_what_the_client_has_is_not_sent_again(get, published):
    assert get(**{"If-None-Match": f'"{published}"'}).status_code == 304


@pytest.mark.parametrize("version", ["2", "0", "x", "-1", "../1"])
def test_a_version_that_is_not_there_is_not_found(get, version):
    assert get(version).status_code == 404


def test_the_page_shows_the_digest_and_sends_the_archive(ana, published):
    assert published in ana.get("/models/solar cells/1").text
    assert ana.get("/models/solar cells/1/archive").data == CONTENT


def test_all_models_of_a_submission_come_in_one_zip(ana, rows):
    dataset = rows.dataset(ana.user_id)
    for number in range(3):
        job = rows.job(ana.user_id, dataset, group_key="g", model=f"m{number}")
        rows.publish(job, content=CONTENT + bytes([number]))

    answer = ana.get("/groups/g/archive")

    assert answer.headers["Content-Length"] == str(len(answer.data))
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["m0-1.zip", "m1-1.zip", "m2-1.zip"]
        assert archive.read("m2-1.zip") == CONTENT + b"\x02"


def test_a_submission_without_models_is_a_conflict(ana, rows):
    rows.job(ana.user_id, rows.dataset(ana.user_id), group_key="g")

    assert ana.get("/groups/g/archive").status_code == 409
    assert ana.get("/groups/none/archive").status_code == 404
