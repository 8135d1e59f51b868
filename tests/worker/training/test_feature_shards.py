"""One view on disk: one joiner at a time, nothing replaced under a reader."""

import errno
import os
import time

import numpy as np
import pytest

from shared import feature_cache, file_locks
from worker.training import feature_shards
from worker.training.feature_shards import FeatureShards

DAY_SECONDS = 24 * 3600
TOTAL_ROWS, FEATURE_SIZE = 40, 3
ROWS = np.array([0, 1, 2, 5, 6, 9, *range(20, 40)])


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(feature_shards, "SHARD_ROWS", 8)


def features_of(rows, seed=0):
    values = np.random.default_rng(seed).normal(size=(TOTAL_ROWS, FEATURE_SIZE))
    return values[rows].astype(np.float32)


def open_shards(folder, rows=ROWS):
    return FeatureShards(folder, total_rows=TOTAL_ROWS, rows=rows, origin={"by": "me"})


def put_shards(folder, rows=ROWS, seed=0):
    shards = open_shards(folder, rows)
    for shard in shards.list_missing():
        shards.publish(shard, features_of(shards.rows_of(shard), seed))
    return shards


def put_array(folder, rows=ROWS, seed=0):
    return put_shards(folder, rows, seed).join_shards()


def inodes(folder):
    return {path.name: path.stat().st_ino for path in folder.glob("*.f32")}


def put_entry(folder, *, age_seconds, size_bytes=2**16):
    """A view that nobody has used for so long."""
    folder.mkdir(parents=True)
    (folder / "features-0.f32").write_bytes(os.urandom(size_bytes))
    feature_cache.hold(folder).close()
    then = time.time() - age_seconds
    for path in folder.iterdir():
        os.utime(path, (then, then))
    return folder


def damage(folder):
    (path,) = folder.glob("features-*.f32")
    with path.open("r+b") as stream:
        stream.seek(5)
        stream.write(b"\xff\xff\xff")


@pytest.fixture
def full_disk(monkeypatch):
    """Lets no byte be written while `must_go` is there, as a full disk would not."""

    def fill(must_go):
        write = os.pwrite

        def pwrite(file, data, offset):
            if must_go.exists():
                # Half of it fits: that is how a disk gets full.
                write(file, data[: len(data) // 2], offset)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(file, data, offset)

        monkeypatch.setattr(os, "pwrite", pwrite)

    return fill


def test_the_joined_array_holds_every_row_in_its_place_and_no_shard_stays(tmp_path):
    array = put_array(tmp_path / "view")

    expected = np.zeros((TOTAL_ROWS, FEATURE_SIZE), np.float32)
    expected[ROWS] = features_of(ROWS)
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(open_shards(tmp_path / "view").find_array(), expected)
    assert not (tmp_path / "view" / "shards").exists()


def test_writes_that_are_cut_short_go_on_where_they_ended(tmp_path, monkeypatch):
    write = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda file, data, offset: write(file, data[:5], offset)
    )

    array = put_array(tmp_path / "view")

    np.testing.assert_array_equal(array[ROWS], features_of(ROWS))


def test_one_process_at_a_time_joins(tmp_path):
    first = put_shards(tmp_path / "view")
    second = open_shards(tmp_path / "view")

    with file_locks.try_lock(tmp_path / "view" / "join.lock", shared=False):
        assert second.join_shards() is None
    array = first.join_shards()

    assert np.array_equal(second.join_shards(), array)
    assert len(inodes(tmp_path / "view")) == 1


def test_what_is_joined_already_is_opened_and_not_written_again(tmp_path):
    late = put_shards(tmp_path / "view")
    assert late.list_missing() == []
    put_array(tmp_path / "view")
    before = inodes(tmp_path / "view")

    array = late.join_shards()

    assert np.array_equal(array[ROWS], features_of(ROWS))
    assert inodes(tmp_path / "view") == before


def test_of_two_that_join_at_once_the_first_array_stays(tmp_path, monkeypatch):
    slow, fast = put_shards(tmp_path / "view"), open_shards(tmp_path / "view")
    write, overtaken = os.pwrite, []

    def pwrite(file, data, offset):
        if not overtaken:
            overtaken.append(None)
            overtaken[0] = (
                fast.join_shards(even_if_held=True),
                inodes(tmp_path / "view"),
            )
        return write(file, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    # It loses the shards that the other has joined, and finds the array then.
    array = slow.join_shards()
    array = slow.find_array() if array is None else array

    (first, before) = overtaken[0]
    assert np.array_equal(array, first)
    assert inodes(tmp_path / "view") == before


def test_the_file_of_a_live_writer_stays_and_that_of_a_dead_one_goes(tmp_path):
    shards = put_shards(tmp_path / "view")
    live, dead = (tmp_path / "view" / f"features.{name}.part" for name in "ab")
    for path in (live, dead):
        path.write_bytes(b"x")
    then = time.time() - DAY_SECONDS
    os.utime(dead, (then, then))

    shards.join_shards()

    assert live.exists()
    assert not dead.exists()


def test_a_full_disk_takes_the_view_unused_for_longest_and_goes_on(tmp_path, full_disk):
    older = put_entry(tmp_path / "older", age_seconds=2 * DAY_SECONDS)
    newer = put_entry(tmp_path / "newer", age_seconds=DAY_SECONDS)
    shards = put_shards(tmp_path / "view")
    full_disk(older)

    with shards.in_use():
        array = shards.join_shards()

    assert np.array_equal(array[ROWS], features_of(ROWS))
    assert newer.exists()


def test_a_disk_that_stays_full_is_an_error_and_costs_no_shard(tmp_path, full_disk):
    used = put_entry(tmp_path / "used", age_seconds=0)
    shards = put_shards(tmp_path / "view")
    full_disk(used)

    with pytest.raises(OSError, match="No space left") as raised:
        shards.join_shards()

    assert raised.value.errno == errno.ENOSPC
    assert used.exists()
    assert list((tmp_path / "view").glob("*.part")) == []
    assert open_shards(tmp_path / "view").list_missing() == []


def test_a_shard_that_was_lost_is_told_and_nothing_is_joined(tmp_path):
    shards = put_shards(tmp_path / "view")
    next((tmp_path / "view" / "shards").glob("000001-*.f32")).unlink()

    assert shards.join_shards() is None

    assert shards.list_missing() == [1]
    assert not shards.is_done


def test_a_damaged_array_is_set_aside_and_its_reader_keeps_it(tmp_path):
    reader = put_array(tmp_path / "view")
    before = inodes(tmp_path / "view")
    damage(tmp_path / "view")

    assert open_shards(tmp_path / "view").find_array() is None

    again = put_array(tmp_path / "view")
    assert np.array_equal(again[ROWS], features_of(ROWS))
    # The reader's file is there still, under another name.
    assert set(before.values()) < set(inodes(tmp_path / "view").values())
    assert np.array_equal(reader[20:], features_of(np.arange(20, 40)))


@pytest.mark.parametrize("index", [b"{", b"[]", b'{"sha256": "../../x"}'])
def test_an_index_that_cannot_be_read_is_told_and_made_again(tmp_path, index, capfd):
    put_array(tmp_path / "view")
    (tmp_path / "view" / "DONE.json").write_bytes(index)

    assert open_shards(tmp_path / "view").find_array() is None

    assert "damaged index" in capfd.readouterr().out
    assert put_array(tmp_path / "view") is not None


def test_a_disk_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    put_array(tmp_path / "view")

    def pread(_file, _size, _offset):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", pread)

    with pytest.raises(OSError, match="Input/output error"):
        open_shards(tmp_path / "view").find_array()


def test_equal_features_have_equal_digests_and_others_have_not(tmp_path):
    first = put_array(tmp_path / "first")
    again = put_array(tmp_path / "again")
    other_values = put_array(tmp_path / "values", seed=1)
    # The same bytes, one row further down.
    moved = open_shards(tmp_path / "moved", ROWS[:-1])
    kept = open_shards(tmp_path / "kept", np.array([*ROWS[:-2], 39]))
    for shards in (moved, kept):
        for shard in shards.list_missing():
            rows = moved.rows_of(shard)
            shards.publish(shard, features_of(rows))

    digests = {
        array.digest
        for array in (
            first,
            again,
            other_values,
            moved.join_shards(),
            kept.join_shards(),
        )
    }

    assert first.digest == again.digest
    assert open_shards(tmp_path / "first").find_array().digest == first.digest
    assert len(digests) == 4
