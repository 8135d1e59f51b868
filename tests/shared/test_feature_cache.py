"""Cached features are removed by the order of their use, and never under a reader."""

import errno
import fcntl
import multiprocessing
import os
import time

import numpy as np
import pytest

from shared import feature_cache, file_locks

DAY_SECONDS = 24 * 3600


def put(folder, *, age_seconds, rows=4096):
    folder.mkdir(parents=True)
    array = np.memmap(folder / "features.f32", "<f4", "w+", shape=(rows,))
    array[:] = rows
    array.flush()
    age(folder / "features.f32", age_seconds)
    return folder


def remove(folder, *, max_bytes=0):
    return feature_cache.remove_unneeded(
        folder, max_bytes=max_bytes, unused_seconds=30 * DAY_SECONDS
    )


def use(entry, *, age_seconds):
    """Holds `entry` once, as a run did that long ago."""
    feature_cache.hold(entry).close()
    age(entry / feature_cache.IN_USE, age_seconds)


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def before_locking(monkeypatch, action, *, kind):
    """Calls `action` once, between the opening and the first locking of that kind."""
    waiting, lock = [action], fcntl.flock

    def flock(file, operation):
        if operation & kind and waiting:
            waiting.pop()()
        return lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)


def hold_until_killed(entry, is_held):
    lock = feature_cache.hold(entry)
    array = np.memmap(entry / "features.f32", "<f4", "r")
    is_held.send(float(array[0]))
    time.sleep(60)
    del lock


def lock_for_a_moment(path):
    with path.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        (path.parent / "locked").touch()
        time.sleep(0.3)


@pytest.fixture
def reader(tmp_path):
    """A process that maps `tmp_path/entry`, as a training does."""
    put(tmp_path / "entry", age_seconds=DAY_SECONDS)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=hold_until_killed, args=(tmp_path / "entry", theirs)
    )
    process.start()
    assert ours.recv() == 4096
    yield process
    process.kill()
    process.join()


def test_an_entry_stays_while_its_reader_lives_and_goes_after_it_was_killed(
    tmp_path, reader
):
    assert remove(tmp_path) == []

    reader.kill()
    reader.join()
    age(tmp_path / "entry" / feature_cache.IN_USE, DAY_SECONDS)

    assert remove(tmp_path) == [tmp_path / "entry"]
    assert list(tmp_path.iterdir()) == []


def test_two_readers_hold_one_entry(tmp_path):
    entry = put(tmp_path / "entry", age_seconds=DAY_SECONDS)

    with feature_cache.hold(entry), feature_cache.hold(entry) as second:
        assert second is not None


def test_what_is_not_there_cannot_be_held(tmp_path):
    assert feature_cache.hold(tmp_path / "absent") is None


def test_who_opens_an_entry_that_a_sweep_then_removes_does_not_hold_it(
    tmp_path, monkeypatch
):
    entry = put(tmp_path / "entry", age_seconds=DAY_SECONDS)
    use(entry, age_seconds=DAY_SECONDS)
    before_locking(monkeypatch, lambda: remove(tmp_path), kind=fcntl.LOCK_SH)

    held = feature_cache.hold(entry)

    assert held is None
    assert not entry.exists()


def test_who_opens_an_entry_that_is_made_anew_holds_the_new_one(tmp_path, monkeypatch):
    entry = put(tmp_path / "entry", age_seconds=DAY_SECONDS)
    use(entry, age_seconds=DAY_SECONDS)

    def make_anew():
        remove(tmp_path)
        put(entry, age_seconds=DAY_SECONDS)

    before_locking(monkeypatch, make_anew, kind=fcntl.LOCK_SH)
    with feature_cache.hold(entry):
        age(entry / feature_cache.IN_USE, DAY_SECONDS)
        removed = remove(tmp_path)

    assert removed == []


@pytest.mark.parametrize("was_held_before", [True, False])
def test_an_entry_that_a_run_finds_during_the_sweep_stays(
    tmp_path, monkeypatch, was_held_before
):
    entry = put(tmp_path / "entry", age_seconds=DAY_SECONDS)
    if was_held_before:
        use(entry, age_seconds=DAY_SECONDS)

    def find():
        feature_cache.hold(entry).close()
        (entry / "features.f32").touch()

    before_locking(monkeypatch, find, kind=fcntl.LOCK_EX)

    assert remove(tmp_path) == []
    assert (entry / "features.f32").exists()


def test_an_entry_that_was_used_a_moment_ago_stays_above_the_limit(tmp_path):
    entry = put(tmp_path / "entry", age_seconds=DAY_SECONDS)
    use(entry, age_seconds=feature_cache.RECENT_SECONDS / 2)

    assert remove(tmp_path) == []

    age(entry / feature_cache.IN_USE, 2 * feature_cache.RECENT_SECONDS)
    assert remove(tmp_path) == [entry]


def test_an_entry_stays_for_a_reader_whom_a_sweep_keeps_waiting(tmp_path):
    entry = put(tmp_path / "entry", age_seconds=DAY_SECONDS)
    use(entry, age_seconds=DAY_SECONDS)
    sweep = multiprocessing.get_context("spawn").Process(
        target=lock_for_a_moment, args=(entry / feature_cache.IN_USE,)
    )
    sweep.start()
    while not (entry / "locked").exists():
        time.sleep(0.01)

    with feature_cache.hold(entry) as held:
        assert held is not None
    sweep.join()


def test_without_locks_an_entry_stays_for_a_day_after_its_use(tmp_path, monkeypatch):
    def flock(_file, _operation):
        raise OSError(errno.ENOLCK, "no locks available")

    entry = put(tmp_path / "entry", age_seconds=9 * DAY_SECONDS)
    monkeypatch.setattr(fcntl, "flock", flock)

    use(entry, age_seconds=DAY_SECONDS / 2)
    assert remove(tmp_path) == []

    use(entry, age_seconds=2 * DAY_SECONDS)
    assert remove(tmp_path) == [entry]


def test_a_lock_that_fails_otherwise_is_told(tmp_path, monkeypatch):
    def flock(_file, _operation):
        raise OSError(errno.EIO, "input/output error")

    entry = put(tmp_path / "entry", age_seconds=DAY_SECONDS)
    monkeypatch.setattr(fcntl, "flock", flock)

    with pytest.raises(OSError, match="input/output error"):
        feature_cache.hold(entry)
    with pytest.raises(OSError, match="input/output error"):
        remove(tmp_path)


def test_a_sweep_that_hangs_costs_a_reader_the_entry_and_no_more(tmp_path, monkeypatch):
    entry = put(tmp_path / "entry", age_seconds=DAY_SECONDS)
    use(entry, age_seconds=DAY_SECONDS)
    monkeypatch.setattr(feature_cache, "_SWEEP_SECONDS", 0.1)

    with file_locks.try_lock(entry / feature_cache.IN_USE, shared=False):
        assert feature_cache.hold(entry) is None


def test_two_sweeps_remove_an_entry_once(tmp_path, monkeypatch):
    entry = put(tmp_path / "entry", age_seconds=DAY_SECONDS)
    use(entry, age_seconds=DAY_SECONDS)
    by_the_other = []
    before_locking(
        monkeypatch, lambda: by_the_other.extend(remove(tmp_path)), kind=fcntl.LOCK_EX
    )

    assert remove(tmp_path) == []
    assert by_the_other == [entry]


def test_use_decides_the_order_and_not_the_time_of_writing(tmp_path):
    old, new = (
        put(tmp_path / name, age_seconds=age * DAY_SECONDS)
        for name, age in (("old", 5), ("new", 1))
    )
    feature_cache.hold(old).close()

    assert remove(tmp_path, max_bytes=20_000) == [new]


def test_holes_are_not_counted(tmp_path):
    entry = tmp_path / "sparse"
    entry.mkdir()
    array = np.memmap(entry / "features.f32", "<f4", "w+", shape=(2**20,))
    array[-1] = 1
    array.flush()

    assert remove(tmp_path, max_bytes=100_000) == []


def test_what_a_killed_sweep_left_is_removed(tmp_path):
    put(tmp_path / ".gone-0011", age_seconds=0)

    assert remove(tmp_path, max_bytes=10**9) == []
    assert list(tmp_path.iterdir()) == []
