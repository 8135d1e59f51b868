"""Checkpoints beside the training: what is written, what waits, what is not lost."""

import errno
import json
import threading
from concurrent import futures

import numpy as np
import pytest

from worker.training import checkpoint
from worker.training.background_writer import BackgroundWriter
from worker.training.checkpoint import PERIODIC, CheckpointWriter, list_checkpoints
from worker.training.named_arrays import NamedArray
from worker.training.training_state import TrainingState


class Disk:
    """A disk whose writes take until they are let through."""

    def __init__(self, monkeypatch):
        self.asked, self.free = threading.Event(), threading.Event()
        self.error = None
        self._write = np.savez
        monkeypatch.setattr(np, "savez", self.write)

    def write(self, path, **arrays):
        self.asked.set()
        assert self.free.wait(30)
        if self.error is not None:
            raise self.error
        self._write(path, **arrays)


@pytest.fixture
def disk(monkeypatch):
    disk = Disk(monkeypatch)
    yield disk
    disk.free.set()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ckpt"


@pytest.fixture
def writer(folder):
    facts = {"spec_sha": "abc", "fence": 1, "versions": {}}
    return BackgroundWriter(CheckpointWriter(folder, facts, prune=False))


def begin(writer, step):
    state = TrainingState(step=step)
    arrays = {"model": [NamedArray("kernel", np.full(3, step, np.float32))]}
    writer.begin(state, arrays, kind=PERIODIC)
    return state


def steps_in(folder):
    return [int(path.name) for path in list_checkpoints(folder)]


def test_the_training_goes_on_while_the_disk_is_slow(writer, disk, folder):
    begin(writer, 1)
    assert disk.asked.wait(30)

    assert not writer.is_free()
    assert steps_in(folder) == []

    disk.free.set()
    writer.wait()
    assert writer.is_free()
    assert steps_in(folder) == [1]


def test_how_long_a_checkpoint_took_is_known(writer, disk, folder):
    begin(writer, 1)
    assert disk.asked.wait(30)
    threading.Timer(0.2, disk.free.set).start()

    writer.wait()

    assert writer.write_seconds >= 0.2


def test_what_is_trained_meanwhile_is_not_in_the_checkpoint(writer, disk, folder):
    state = begin(writer, 1)
    assert disk.asked.wait(30)
    state.add_batch({"loss": 1.0}, images=4)
    state.facts["late"] = True

    disk.free.set()
    writer.wait()

    (path,) = list_checkpoints(folder)
    stored = json.loads((path / "state.json").read_text())["state"]
    assert (stored["step"], stored["batch"], stored["facts"]) == (1, 0, {})


def test_nothing_is_told_before_it_is_durable(writer, disk, folder, capfd):
    begin(writer, 1)
    assert disk.asked.wait(30)
    assert '"checkpoint"' not in capfd.readouterr().out

    disk.free.set()
    writer.wait()

    told = json.loads(capfd.readouterr().out)
    assert (told["event"], told["step"]) == ("checkpoint", 1)
    checkpoint.artifacts.verify_manifest(folder / f"{1:012d}", told["manifest_sha"])


def test_the_next_one_waits_for_the_one_before(writer, disk, folder):
    begin(writer, 1)
    assert disk.asked.wait(30)
    threading.Timer(0.2, disk.free.set).start()

    begin(writer, 2)
    assert steps_in(folder) == [1]

    writer.wait()
    assert steps_in(folder) == [2, 1]


@pytest.mark.parametrize("ask", ["is_free", "wait"])
def test_an_error_of_the_disk_reaches_the_training_once(writer, disk, folder, ask):
    disk.error = OSError(errno.EIO, "Input/output error")
    disk.free.set()
    begin(writer, 1)
    futures.wait([writer._under_way])

    with pytest.raises(OSError, match="Input/output"):
        getattr(writer, ask)()
    disk.error = None
    begin(writer, 2)
    writer.wait()

    assert steps_in(folder) == [2]


def test_a_full_disk_costs_one_checkpoint_and_is_said(writer, disk, folder, capfd):
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    disk.free.set()

    begin(writer, 1)
    writer.wait()

    assert "disk is full" in json.loads(capfd.readouterr().out)["message"]
    assert steps_in(folder) == []


def test_it_is_left_only_when_the_last_one_is_durable(writer, disk, folder):
    with writer:
        begin(writer, 1)
        assert disk.asked.wait(30)
        threading.Timer(0.2, disk.free.set).start()

    assert steps_in(folder) == [1]


def test_what_ended_the_training_is_told_rather_than_the_disk(writer, disk):
    disk.error = OSError(errno.EIO, "Input/output error")
    disk.free.set()

    begin(writer, 1)

    with pytest.raises(ZeroDivisionError), writer:
        _ = 1 / 0
