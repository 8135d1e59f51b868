"""Cached features are removed by the order of their use, and never under a reader."""

import multiprocessing
import os
import time

import numpy as np
import pytest

from shared import feature_cache

DAY_SECONDS = 24 * 3600


def put(folder, *, age_seconds, rows=4096):
    folder.mkdir(parents=True)
    array = np.memmap(folder / "features.f32", "<f4", "w+", shape=(rows,))
    array[:] = rows
    array.flush()
    then = time.time() - age_seconds
    os.utime(folder / "features.f32", (then, then))
    return folder


def remove(folder, *, max_bytes=0):
    return feature_cache.remove_unneeded(
        folder, max_bytes=max_bytes, unused_seconds=30 * DAY_SECONDS
    )


def hold_until_killed(entry, is_held):
    lock = feature_cache.hold(entry)
    array = np.memmap(entry / "features.f32", "<f4", "r")
    is_held.send(float(array[0]))
    time.sleep(60)
    del lock


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

    assert remove(tmp_path) == [tmp_path / "entry"]
    assert list(tmp_path.iterdir()) == []


def test_two_readers_hold_one_entry(tmp_path):
    entry = put(tmp_path / "entry", age_seconds=DAY_SECONDS)

    with feature_cache.hold(entry), feature_cache.hold(entry) as second:
        assert second is not None


def test_what_is_being_removed_cannot_be_held(tmp_path):
    entry = put(tmp_path / "entry", age_seconds=DAY_SECONDS)
    feature_cache.hold(entry).close()
    (listed,) = feature_cache._list_entries(tmp_path)

    with feature_cache._alone(listed) as is_ours:
        held = feature_cache.hold(entry)

    assert is_ours
    assert held is None
    assert feature_cache.hold(tmp_path / "absent") is None


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
