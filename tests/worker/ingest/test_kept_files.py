"""What one attempt has fetched whole, the next one does not fetch again."""

import errno
import json
import signal
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest

from shared.artifacts import PROOFS, SCRATCH, sha256_file
from shared.errors import OutageError, UserError
from shared.source_addresses import parse_address
from tests.worker.ingest.ingest_process import Ingest, run_apart
from tests.worker.ingest.test_remote import (
    BODY,
    HERE,
    QUICK,
    fail_all,
    list_pictures,
    make_courier,
)
from tests.worker.ingest.uploads import png
from worker.ingest.remote.kept_files import KeptFiles
from worker.ingest.segments import take_file

EAGER = "tests.worker.ingest.eager_ingest"
COUNT = 40
SILENT = 30


def bring(workdir, server, *paths, earlier=(), told=None, limits=None):
    """One attempt that fetches these; returns what came of each."""
    wanted = [(path, parse_address(f"{server.url}{path}")) for path in paths]
    told = [] if told is None else told
    with KeptFiles(workdir, earlier, told.append) as kept:
        courier = make_courier(
            workdir, server, limits, kept=kept, outage=3, tries=1, parallel=1
        )
        return {parcel.key: parcel for parcel in courier.fetch_all(wanted, len(paths))}


def list_kept(workdir):
    found = (workdir / PROOFS).rglob("0*")
    return [path for path in found if path.is_file() and not path.suffix]


def test_what_has_come_whole_is_asked_for_once(tmp_path, serve):
    server = serve({"/a.png": BODY, "/b.png": b"b"})
    bring(tmp_path / "1", server, "/a.png")
    (kept,) = list_kept(tmp_path / "1")
    told = []

    came = bring(
        tmp_path / "2", server, "/a.png", "/b.png", earlier=[tmp_path / "1"], told=told
    )

    assert [path for path, _ in server.got] == ["/a.png", "/b.png"]
    assert {key: parcel.fetched.path.read_bytes() for key, parcel in came.items()} == {
        "/a.png": BODY, "/b.png": b"b",
    }  # fmt: skip
    assert came["/a.png"].fetched.path.samefile(kept)
    assert told[-1] == 2


def test_what_came_before_an_outage_is_kept_at_once(tmp_path, serve):
    server = serve({f"/{at}.png": png(at) for at in range(9)})
    paths = list(server.files)
    fail_all(server, range(4, 9))

    with pytest.raises(OutageError):
        bring(tmp_path / "1", server, *paths)
    server.faults.clear()
    came = bring(tmp_path / "2", server, *paths, earlier=[tmp_path / "1"])

    assert all(parcel.fetched for parcel in came.values())
    asked = Counter(path for path, _ in server.got)
    assert [asked[path] for path in paths[:4]] == [1, 1, 1, 1]


def test_what_came_behind_the_file_that_ends_the_attempt_is_kept(tmp_path, serve):
    server = serve({f"/{at}.png": png(at) for at in range(6)})
    server.faults["/1.png"] = ["mute"]
    wanted = [(at, parse_address(f"{server.url}/{at}.png")) for at in range(6)]
    with KeptFiles(tmp_path / "1") as kept:
        courier = make_courier(
            tmp_path, server, kept=kept, outage=1, tries=1, parallel=2
        )
        with pytest.raises(OutageError):
            list(courier.fetch_all(wanted, len(wanted)))

    assert len(list_kept(tmp_path / "1")) == 5


def test_what_was_kept_of_a_server_that_is_dead_now_does_not_end_the_attempt(
    tmp_path, serve
):
    server = serve({f"/{at}.png": png(at) for at in range(9)})
    paths = list(server.files)
    bring(tmp_path / "1", server, *paths[:3])
    fail_all(server, range(3, 9))

    came = bring(tmp_path / "2", server, *paths, earlier=[tmp_path / "1"])

    assert [path for path, one in came.items() if one.fetched] == paths[:3]


def test_a_large_kept_file_is_told_of_while_it_is_looked_at(tmp_path):
    path, told = tmp_path / "large", []
    path.write_bytes(bytes(5 * 2**20))

    assert take_file(path, tmp_path / "taken", sha256_file(path), told.append)
    assert told == [2**20] * 5
    assert not take_file(path, tmp_path / "other", "0" * 64, told.append)
    assert sum(told) == 5 * 2**20
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("links", [True, False])
def test_a_kept_file_is_taken_with_links_and_without(tmp_path, monkeypatch, links):
    path, target = tmp_path / "kept", tmp_path / "taken"
    path.write_bytes(BODY)
    if not links:
        refuse = OSError(errno.EPERM, "no links here")
        monkeypatch.setattr(Path, "hardlink_to", mock.Mock(side_effect=refuse))

    assert take_file(path, target, sha256_file(path))
    assert target.read_bytes() == BODY
    assert target.samefile(path) is links


@pytest.mark.parametrize("content", [None, b"", b"other"])
def test_a_kept_file_that_is_not_whole_is_fetched_again(tmp_path, serve, content):
    server = serve({"/a.png": BODY})
    bring(tmp_path / "1", server, "/a.png")
    (kept,) = list_kept(tmp_path / "1")
    kept.unlink()
    if content is not None:
        kept.write_bytes(content)

    came = bring(tmp_path / "2", server, "/a.png", earlier=[tmp_path / "1"])

    assert came["/a.png"].fetched.path.read_bytes() == BODY
    assert len(server.got) == 2
    # Nobody has written through a link.
    assert (kept.read_bytes() if kept.exists() else None) == content


def test_a_kept_file_is_held_to_the_limits_of_now(tmp_path, serve):
    server = serve({"/a.png": BODY})
    bring(tmp_path / "1", server, "/a.png")
    small, little = {"max_file_bytes": 1000}, {"max_unpacked_bytes": 1000}
    again = {"earlier": [tmp_path / "1"]}

    came = bring(tmp_path / "2", server, "/a.png", limits=small, **again)

    assert "larger than" in came["/a.png"].fault
    with pytest.raises(UserError, match="larger than"):
        bring(tmp_path / "3", server, "/a.png", limits=little, **again)


def test_an_archive_is_kept_and_what_a_query_hides_is_not_written_down(tmp_path, serve):
    server = serve({"/a.zip": BODY, "/b.png": b"one"})
    whole = parse_address(f"{server.url}/a.zip")
    bring(tmp_path / "0", server, "/b.png")
    for attempt in range(2):
        earlier = [tmp_path / "0", tmp_path / "attempt 0"]
        with KeptFiles(tmp_path / f"attempt {attempt}", earlier) as kept:
            courier = make_courier(tmp_path, server, kept=kept)
            assert courier.fetch_whole(whole).read_bytes() == BODY
            asked = parse_address(f"{server.url}/b.png?key=hidden", may_query=True)
            (parcel,) = courier.fetch_all([("b", asked)], 1)
            assert parcel.fetched

    paths = [path for path, _ in server.got]
    assert paths == ["/b.png", "/a.zip", "/b.png?key=hidden"]
    for segment in tmp_path.rglob("*.jsonl"):
        assert "hidden" not in segment.read_text()


def test_killed_while_it_fetches_the_next_attempt_fetches_the_rest(tmp_path, serve):
    server = serve({f"/{at}.png": png(at) for at in range(COUNT)})
    server.faults[f"/{SILENT}.png"] = ["mute"]
    entry = list_pictures(server, range(COUNT))
    rules = {"allowed": [f"{server.url}/"], "networks": HERE, **QUICK}
    rules |= {"parallel": 1, "stall_seconds": 30}
    first = Ingest(tmp_path / "first", entry, program=EAGER, addresses=rules)
    # The table, too.
    first.wait_for(event="durable", what="fetched", done=SILENT + 1)
    first.end(signal.SIGKILL)
    assert (first.workdir / SCRATCH).exists()

    second = run_apart(
        tmp_path / "second", entry, earlier=[str(first.workdir)], addresses=rules
    )

    asked = Counter(path for path, _ in server.got)
    twice = {path for path, times in asked.items() if times > 1}
    assert twice == {f"/{SILENT}.png"}
    assert len(second.rows()) == COUNT
    notes = [e["message"] for e in second.events if e["event"] == "note"]
    assert notes[0] == f"{SILENT + 1} files were fetched by an earlier attempt."
    durable = [e["done"] for e in second.events if e.get("what") == "fetched"]
    assert durable[-1] == COUNT + 1
    assert second.leftovers() == []
    assert len(list_kept(first.workdir)) == SILENT + 1, "its host may only be frozen"


def test_what_is_kept_is_written_down_with_its_size_and_digest(tmp_path, serve):
    server = serve({"/a.png": b"four"})

    bring(tmp_path, server, "/a.png")

    (segment,) = (tmp_path / PROOFS).rglob("*.jsonl")
    line = json.loads(segment.read_text().splitlines()[2])
    assert line["size_bytes"] == 4
    assert len(line["sha256"]) == 64
