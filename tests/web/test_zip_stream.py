"""A zip of many archives: its length is known before its first byte."""

import io
import zipfile

import pytest

from web.zip_stream import Member, measure_zip, stream_zip

SIZES = (0, 1, 999, 300_000)


@pytest.fixture
def members(tmp_path):
    found = []
    for size_bytes in SIZES:
        path = tmp_path / f"{size_bytes}"
        path.write_bytes(b"x" * size_bytes)
        found.append(Member(f"model-{size_bytes}.zip", path))
    return found


@pytest.mark.parametrize("limit", [2**31 - 1, 500, 0])
def test_its_length_is_foretold(members, monkeypatch, limit):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)

    content = b"".join(stream_zip(members))

    assert measure_zip(members) == len(content)


def test_it_holds_the_files_in_order(members):
    content = b"".join(stream_zip(members))

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert [info.file_size for info in archive.infolist()] == list(SIZES)


def test_no_files_make_an_empty_zip():
    assert measure_zip([]) == len(b"".join(stream_zip([])))
