"""Proofs are taken over when they are whole and about the very same bytes."""

import hashlib

import pytest

from worker.ingest.found import FoundFile, LabelledFile, SkipList
from worker.ingest.limits import Limits
from worker.ingest.proofs import Journal, Known, take_over
from worker.ingest.verify import verify

LIMIT = 1_000_000
PNG = b"an upright picture"


def digest(data):
    return hashlib.sha256(data).digest()


def unpacked(tmp_path, name, data=None):
    """A file as an archive gives it: its digest is known."""
    data = name.encode() if data is None else data
    return LabelledFile(FoundFile(tmp_path / name, name, digest(data)), "cat")


def on_server(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return LabelledFile(FoundFile(path, name), "cat")


def proof(data, *, path=None, rewritten=None):
    return {
        "sha256": digest(data).hex(),
        "size_bytes": len(data),
        "mtime_ns": path.stat().st_mtime_ns if path else 1,
        "rewritten": rewritten is not None,
        "rewritten_sha256": hashlib.sha256(rewritten).hexdigest()
        if rewritten
        else None,
    }


def keep(workdir, *entries, counts=None):
    """Writes one run's journal of (file, known)."""
    told = [] if counts is None else counts
    with Journal(workdir, LIMIT, told.append) as journal:
        for number, (file, known) in enumerate(entries):
            if known.proof and known.proof["rewritten"]:
                journal.rewritten_path(number).write_bytes(PNG)
            journal.add(number, file, known)
    return workdir


def ask(tmp_path, files, *workdirs, limit=LIMIT):
    with Journal(tmp_path / "now", limit) as journal:
        found = dict(take_over(files, workdirs, journal, limit))
        assert journal.taken == len(found)
        return found, journal


def test_the_same_bytes_are_known_under_any_name(tmp_path):
    kept = unpacked(tmp_path, "a")
    workdir = keep(tmp_path / "then", (kept, Known(proof=proof(b"a"))))
    files = [unpacked(tmp_path, "b"), unpacked(tmp_path, "new name", b"a")] * 2

    found, _ = ask(tmp_path, files, workdir)

    assert {number: known.proof for number, known in found.items()} == {
        1: proof(b"a"),
        3: proof(b"a"),
    }


def test_a_refusal_is_known_unless_another_try_may_end_otherwise(tmp_path):
    codes = ("damaged", "timeout", "out_of_memory", "unreadable")
    files = [unpacked(tmp_path, code) for code in codes]
    entries = [(f, Known(fault=(f.file.name, "Why."))) for f in files]
    workdir = keep(tmp_path / "then", *entries)

    found, _ = ask(tmp_path, files, workdir)

    assert found == {0: Known(fault=("damaged", "Why."))}


def test_a_file_on_the_server_is_known_while_it_does_not_change(tmp_path):
    files = [on_server(tmp_path, name, name.encode()) for name in ("a", "b", "c")]
    workdir = keep(
        tmp_path / "then",
        *(
            (f, Known(proof=proof(f.file.name.encode(), path=f.file.path)))
            for f in files
        ),
    )
    files[1].file.path.write_bytes(b"other")
    files[2].file.path.unlink()

    assert list(ask(tmp_path, files, workdir)[0]) == [0]


def test_a_torn_segment_is_ignored_and_the_others_are_not(tmp_path):
    files = [unpacked(tmp_path, name) for name in ("a", "b")]
    for file in files:
        name = file.file.name
        keep(tmp_path / name, (file, Known(proof=proof(name.encode()))))
    (segment,) = (tmp_path / "a").rglob("*.jsonl")
    segment.write_bytes(segment.read_bytes()[:-10])
    assert list(ask(tmp_path, files, tmp_path / "a", tmp_path / "b")[0]) == [1]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x" * 100])
def test_a_segment_of_anything_else_is_ignored(tmp_path, content):
    file = unpacked(tmp_path, "a")
    workdir = keep(tmp_path / "then", (file, Known(proof=proof(b"a"))))
    (segment,) = workdir.rglob("*.jsonl")
    segment.write_bytes(content)

    assert ask(tmp_path, [file], workdir, tmp_path / "nowhere")[0] == {}


def test_proofs_under_another_limit_do_not_count(tmp_path):
    file = unpacked(tmp_path, "a")
    workdir = keep(tmp_path / "then", (file, Known(proof=proof(b"a"))))

    assert ask(tmp_path, [file], workdir, limit=LIMIT + 1)[0] == {}


def test_a_rewritten_picture_is_linked_and_the_earlier_folder_untouched(tmp_path):
    file = unpacked(tmp_path, "a")
    known = Known(proof=proof(b"a", rewritten=PNG))
    workdir = keep(tmp_path / "then", (file, known))

    found, journal = ask(tmp_path, [unpacked(tmp_path, "b"), file], workdir)

    assert list(found) == [1]
    assert journal.rewritten_path(1).read_bytes() == PNG
    (earlier,) = workdir.rglob("*.png")
    assert earlier.samefile(journal.rewritten_path(1))


def test_a_rewritten_picture_that_cannot_be_read_is_made_again(tmp_path):
    file = unpacked(tmp_path, "a")
    known = Known(proof=proof(b"a", rewritten=PNG))
    workdir = keep(tmp_path / "then", (file, known))
    (earlier,) = workdir.rglob("*.png")
    earlier.unlink()
    earlier.mkdir()  # as little to be read as a bad sector

    found, journal = ask(tmp_path, [file], workdir)

    assert found == {}
    assert not journal.rewritten_path(0).exists()


def test_each_that_is_taken_over_is_told(tmp_path):
    names = ["a", "b", "c"]
    files = [unpacked(tmp_path, name) for name in names]
    seen = {
        "content": "0" * 64, "suffix": ".png", "width_px": 1, "height_px": 1,
        "remarks": [],
    }  # fmt: skip
    known = [Known(proof=proof(n.encode(), rewritten=PNG) | seen) for n in names]
    workdir = keep(tmp_path / "then", *zip(files, known, strict=True))
    limits, told = Limits(max_pixels=LIMIT), []

    with Journal(tmp_path / "now", LIMIT) as journal:
        pictures, _ = verify(
            files, journal, limits, SkipList(),
            lambda done, total: told.append((done, total)),
            earlier=[workdir],
        )  # fmt: skip

    assert told == [(1, 3), (2, 3), (3, 3)]
    assert len(pictures) == 3


@pytest.mark.parametrize("content", [None, b"", b"another picture"])
def test_a_rewritten_picture_that_is_not_whole_is_made_again(tmp_path, content):
    file = unpacked(tmp_path, "a")
    known = Known(proof=proof(b"a", rewritten=PNG))
    workdir = keep(tmp_path / "then", (file, known))
    (earlier,) = workdir.rglob("*.png")
    earlier.unlink()
    if content is not None:
        earlier.write_bytes(content)

    found, journal = ask(tmp_path, [file], workdir)
    journal.rewritten_path(0).write_bytes(PNG)

    assert found == {}
    assert (earlier.read_bytes() if earlier.exists() else None) == content


def test_what_is_durable_is_counted_with_what_was_taken_over(tmp_path):
    first = [unpacked(tmp_path, name) for name in ("a", "b")]
    entries = [(f, Known(proof=proof(f.file.name.encode()))) for f in first]
    workdir, counts = keep(tmp_path / "then", *entries), []
    files = [*first, unpacked(tmp_path, "c")]

    with Journal(tmp_path / "now", LIMIT, counts.append) as journal:
        taken = dict(take_over(files, [workdir], journal, LIMIT))
        journal.add(2, files[2], Known(proof=proof(b"c")))

    assert sorted(taken) == [0, 1]
    assert counts == [3]


def test_a_failed_run_writes_no_last_segment(tmp_path):
    file = unpacked(tmp_path, "a")

    def fail():
        with Journal(tmp_path / "then", LIMIT) as journal:
            journal.add(0, file, Known(proof=proof(b"a")))
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()

    assert list((tmp_path / "then").rglob("*.jsonl")) == []
