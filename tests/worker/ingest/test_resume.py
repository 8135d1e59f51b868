"""Killed in the middle, the next attempt proves only what was left, to the same end."""

import signal

import pytest

from shared.artifacts import PROOFS, SCRATCH
from tests.worker.ingest.ingest_process import Ingest, run
from tests.worker.ingest.uploads import class_folders, encode, pixels, write_zip
from tests.worker.processes import wait_until

# In one process, so that what its tests share is made once.
pytestmark = pytest.mark.xdist_group("ingest resume")

EAGER = "tests.worker.ingest.eager_ingest"
BAD = {"cat/page.jpg": b"<html>404</html>"}


@pytest.fixture(scope="module")
def files():
    """Slow pictures, all of which are rewritten, a few plain ones, and a bad one."""
    slow = {
        f"{'cat' if seed % 2 else 'dog'}/{seed}.webp": encode(
            pixels(seed, 160, 160), "WEBP"
        )
        for seed in range(160)
    }
    return {**slow, **class_folders(each=10, start=5000), **BAD}


@pytest.fixture(scope="module")
def upload(files, tmp_path_factory):
    return write_zip(tmp_path_factory.mktemp("upload") / "pets.zip", files, method=0)


@pytest.fixture(scope="module")
def undisturbed(upload, tmp_path_factory):
    return run(tmp_path_factory.mktemp("undisturbed"), upload)


def count_segments(workdir):
    return len(list((workdir / PROOFS).glob("*/*.jsonl")))


def resume(tmp_path, upload, first, **spec):
    """Runs the next attempt; returns it and how many files it did not prove."""
    second = run(tmp_path / "second", upload, earlier=[str(first.workdir)], **spec)
    told = next(e for e in second.events if e["event"] == "note")
    return second, int(told["message"].split()[0])


def assert_same(one, other):
    assert one.last["manifest_sha"] == other.last["manifest_sha"]
    assert one.report() == other.report()
    for path in other.final.rglob("*.png"):
        same = one.final / path.relative_to(other.final)
        assert same.read_bytes() == path.read_bytes()


def test_killed_while_it_proves_only_the_rest_is_proved(
    tmp_path, files, upload, undisturbed
):
    first = Ingest(tmp_path / "first", upload, program=EAGER)
    wait_until(lambda: count_segments(first.workdir) > 2, 120, "segments of proofs")
    first.end(signal.SIGKILL)

    second, taken = resume(tmp_path, upload, first)

    assert 0 < taken < len(files)
    notes = [e["message"] for e in second.events if e["event"] == "note"]
    assert notes == [
        f"{taken} of {len(files)} files were examined by an earlier attempt."
    ]
    assert_same(second, undisturbed)
    assert second.leftovers() == []


def test_killed_while_it_writes_nothing_is_proved_again(
    tmp_path, files, upload, undisturbed
):
    first = Ingest(tmp_path / "first", upload, program=EAGER)
    first.wait_for(event="progress", phase="write")
    first.end(signal.SIGKILL)
    assert (first.workdir / SCRATCH).exists()

    second, taken = resume(tmp_path, upload, first)

    assert taken == len(files)
    assert_same(second, undisturbed)
    # Whoever wrote there may only be frozen.
    assert (first.workdir / SCRATCH).exists()
    assert count_segments(first.workdir) > 0


def test_what_changed_between_two_attempts_is_proved_again(tmp_path):
    folder = tmp_path / "pets"
    for name, data in class_folders(each=6).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    first = Ingest(tmp_path / "first", folder, program=EAGER)
    first.wait_for(event="phase", phase="write")
    first.end(signal.SIGKILL)
    changed = encode(pixels(999))
    (folder / "cat" / "0.png").write_bytes(changed)

    second, taken = resume(tmp_path, folder, first)

    assert taken == 11
    row = second.rows()["cat/0.png"]
    assert (second.final / row["path"]).read_bytes() == changed


def test_durable_proofs_are_told_as_progress(undisturbed, files):
    told = [e for e in undisturbed.events if e["event"] == "durable"]

    assert told[-1]["what"] == PROOFS
    assert (told[-1]["done"], told[-1]["total"]) == (len(files), len(files))
