import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shared.presets import build_training_spec
from worker.training import checkpoint
from worker.training.checkpoint import (
    PERIODIC,
    CheckpointWriter,
    find_newest,
    list_checkpoints,
    set_aside_all,
    tell_start,
)
from worker.training.named_arrays import NamedArray
from worker.training.request import Candidate, Request
from worker.training.training_state import Best, TrainingState

FACTS = {"spec_sha": "abc", "fence": 1, "versions": {}}


def make_state(step):
    state = TrainingState(step=step, epoch=2, batch=1, seconds={"frozen": 1.5})
    state.sums = {"loss": 0.1 + 0.2, "images": 3.0}
    state.best = Best("frozen", 1, step - 1, "val_loss", 1 / 3)
    return state


def make_arrays():
    weights = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    return {
        "model": [NamedArray("dense/kernel", weights)],
        "best": [NamedArray("dense/kernel", weights + 1)],
        "metrics": [],
    }


def make_request(workdir, **changes):
    fields = {
        "dataset": Path("unused"),
        "training": build_training_spec(),
        "caches": workdir,
        "engines": workdir,
        "weights_dirs": [],
        "download_weights": False,
        "workdir": workdir,
        "resume_from": None,
        "threads": None,
        "missing_checkpoint_seconds": 0.0,
        "job": {},
        "spec_sha": "abc",
    }
    return Request(**(fields | changes))


@pytest.fixture
def writer(tmp_path):
    return CheckpointWriter(tmp_path / "ckpt", FACTS, prune=False)


@pytest.fixture
def told(capfd):
    """Returns the events written since the last call."""

    def read(name):
        events = map(json.loads, capfd.readouterr().out.splitlines())
        return [event for event in events if event["event"] == name]

    return read


def test_state_and_arrays_come_back_exactly(tmp_path, writer):
    state, arrays = make_state(7), make_arrays()
    writer.save(state, arrays, kind=PERIODIC)

    stored = find_newest(make_request(tmp_path))

    assert stored.state == state
    for name in ("model", "best"):
        assert stored.arrays[name][0].path == "dense/kernel"
        assert np.array_equal(stored.arrays[name][0].value, arrays[name][0].value)


def test_a_report_names_a_folder_that_is_there_and_its_manifest(writer, told):
    writer.save(make_state(7), make_arrays(), kind=PERIODIC)

    (event,) = told("checkpoint")
    manifest = Path(event["path"], "MANIFEST.json")
    facts = json.loads(manifest.read_text())
    assert (event["step"], event["kind"]) == (7, "periodic")
    assert event["metric"] == 1 / 3
    assert facts["step"] == 7
    assert set(facts["files"]) == {"arrays.npz", "state.json"}
    assert event["manifest_sha"] == checkpoint.artifacts.sha256_file(manifest)


@pytest.mark.parametrize("harm", ["truncated", "flipped", "empty", "missing"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_taken(
    tmp_path, writer, told, harm
):
    writer.save(make_state(1), make_arrays(), kind=PERIODIC)
    writer.save(make_state(2), make_arrays(), kind=PERIODIC)
    arrays = tmp_path / "ckpt" / f"{2:012d}" / "arrays.npz"
    content = arrays.read_bytes()
    arrays.unlink()
    if harm != "missing":
        damaged = {
            "truncated": content[:-9],
            "flipped": content[:99] + bytes([content[99] ^ 1]) + content[100:],
            "empty": b"",
        }
        arrays.write_bytes(damaged[harm])
    told("checkpoint")

    stored = find_newest(make_request(tmp_path))

    assert stored.state.step == 1
    assert len(told("checkpoint_corrupt")) == 1
    assert [path.name for path in list_checkpoints(tmp_path / "ckpt")] == [f"{1:012d}"]


def test_without_one_whole_checkpoint_training_starts_again_and_says_so(
    tmp_path, writer, told
):
    writer.save(make_state(1), make_arrays(), kind=PERIODIC)
    (tmp_path / "ckpt" / f"{1:012d}" / "state.json").unlink()

    assert find_newest(make_request(tmp_path)) is None
    assert "from the beginning" in told("note")[0]["message"]


def test_a_checkpoint_with_another_digest_than_its_row_s_is_not_taken(tmp_path, writer):
    writer.save(make_state(1), make_arrays(), kind=PERIODIC)
    row = Candidate(tmp_path / "ckpt" / f"{1:012d}", "0" * 64)

    assert find_newest(make_request(tmp_path, resume_from=[row])) is None


def test_a_supervisor_learns_that_a_job_begins_anew(tmp_path, writer, told):
    gone = make_request(tmp_path, resume_from=[Candidate(tmp_path / "gone", "0" * 64)])

    tell_start(gone, find_newest(gone))
    assert [event["step"] for event in told("resumed")] == [0]

    first = make_request(tmp_path, resume_from=[])
    tell_start(first, find_newest(first))
    assert told("resumed") == []


def test_under_a_supervisor_files_without_a_row_are_never_read(tmp_path, writer):
    writer.save(make_state(1), make_arrays(), kind=PERIODIC)

    assert find_newest(make_request(tmp_path, resume_from=[])) is None


def test_another_spec_s_checkpoint_is_left_alone_and_out_of_the_way(
    tmp_path, writer, told
):
    writer.save(make_state(9), make_arrays(), kind=PERIODIC)

    assert find_newest(make_request(tmp_path, spec_sha="other")) is None

    assert "another training spec" in told("note")[0]["message"]
    (kept,) = (tmp_path / "ckpt").iterdir()
    assert kept.name.startswith("other-000000000009-")
    assert list_checkpoints(tmp_path / "ckpt") == []


def test_a_supervised_attempt_never_moves_another_s_checkpoint(tmp_path, writer):
    writer.save(make_state(9), make_arrays(), kind=PERIODIC)
    (path,) = list_checkpoints(tmp_path / "ckpt")
    request = make_request(
        tmp_path, spec_sha="other", resume_from=[Candidate(path, None)]
    )

    assert find_newest(request) is None
    set_aside_all(request)

    assert path.is_dir()


def test_a_disk_that_fills_up_costs_one_checkpoint_and_nothing_else(
    tmp_path, writer, told, monkeypatch
):
    writer.save(make_state(1), make_arrays(), kind=PERIODIC)

    def fill_up(path, **_arrays):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(np, "savez", fill_up)
        saved = writer.save(make_state(2), make_arrays(), kind=PERIODIC)

    assert not saved
    assert "disk is full" in told("note")[0]["message"]
    assert not list((tmp_path / "ckpt").glob(".tmp-*"))
    assert find_newest(make_request(tmp_path)).state.step == 1
    assert writer.save(make_state(3), make_arrays(), kind=PERIODIC)


def test_too_little_room_for_two_is_noticed_before_writing(writer, told, monkeypatch):
    writer.save(make_state(1), make_arrays(), kind=PERIODIC)
    nearly_full = shutil._ntuple_diskusage(100, 90, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: nearly_full)

    assert not writer.save(make_state(2), make_arrays(), kind=PERIODIC)
    assert "skipped" in told("note")[0]["message"]


def test_another_failure_of_the_storage_is_not_swallowed(writer, monkeypatch):
    def fail(*_path, **_arrays):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(np, "savez", fail)

    with pytest.raises(OSError, match="Input/output"):
        writer.save(make_state(2), make_arrays(), kind=PERIODIC)


def test_a_run_without_a_database_keeps_the_newest_three(tmp_path):
    writer = CheckpointWriter(tmp_path / "ckpt", FACTS, prune=True)

    for step in (9, 10, 11, 100, 101):
        writer.save(make_state(step), make_arrays(), kind=PERIODIC)

    kept = [int(path.name) for path in list_checkpoints(tmp_path / "ckpt")]
    assert kept == [101, 100, 11]


def test_a_killed_write_leaves_nothing_that_could_be_resumed(tmp_path):
    folder = tmp_path / "ckpt"
    (folder / ".tmp-5-abcd").mkdir(parents=True)
    (folder / ".tmp-5-abcd" / "arrays.npz").write_bytes(b"torn")

    assert find_newest(make_request(tmp_path)) is None
    CheckpointWriter(folder, FACTS, prune=False)
    assert not list(folder.iterdir())


def test_one_step_may_be_saved_twice_in_two_phases(tmp_path, writer):
    state = make_state(5)
    writer.save(state, make_arrays(), kind=PERIODIC)
    state.enter("evaluate")
    writer.save(state, make_arrays(), kind=PERIODIC)

    assert find_newest(make_request(tmp_path)).state.phase == "evaluate"
