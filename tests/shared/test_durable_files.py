"""One file becomes visible whole, once, and stays."""

import pytest

from shared.durable_files import link_or_copy, publish_file, write_atomically


def test_where_links_are_refused_files_are_copied(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"picture")

    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", refuse)

    link_or_copy(tmp_path / "a", tmp_path / "b")

    assert (tmp_path / "b").read_bytes() == b"picture"
    assert not (tmp_path / "b").samefile(tmp_path / "a")


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path):
    (tmp_path / "kept").write_text("before")

    def fail():
        with write_atomically(tmp_path / "kept") as temporary:
            temporary.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()

    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "before"


@pytest.mark.parametrize("links", [True, False])
def test_what_was_published_first_stays(tmp_path, monkeypatch, links):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr("os.link", refuse)
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)

    told = [publish_file(tmp_path / n, tmp_path / "final") for n in ("first", "second")]

    assert told == [True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["final"]
    assert (tmp_path / "final").read_text() == "first"
