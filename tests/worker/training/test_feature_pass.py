"""The pass waits for who shows signs of life, and for nobody else."""

import threading
import time

import numpy as np
import pytest

from worker.training import feature_pass, feature_shards
from worker.training.feature_engines import Engine, Origin
from worker.training.feature_pass import PendingView, compute_views
from worker.training.feature_shards import FeatureShards

PATIENCE_SECONDS = 0.6
ROWS = np.arange(16)


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch):
    monkeypatch.setattr(feature_shards, "SHARD_ROWS", 8)
    monkeypatch.setattr(feature_pass, "_PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(feature_pass, "_POLL_SECONDS", 0.02)


def open_shards(folder):
    return FeatureShards(folder, total_rows=len(ROWS), rows=ROWS, origin={})


def features_of(rows):
    return np.repeat(rows[:, None], 3, axis=1).astype(np.float32)


def compute(folder, computed):
    """Computes the view, noting the rows that were computed here."""

    def run(pixels):
        computed.extend(pixels[:, 0, 0, 0].tolist())
        return features_of(pixels[:, 0, 0, 0])

    origin = Origin(
        engine="toy",
        precision="float32",
        batch_rows=4,
        threads=1,
        framework="",
        processor="",
    )
    engine = Engine(origin, run, lanes=1, alone=False)

    def pixels_of(rows):
        return rows.astype(np.uint8)[:, None, None, None]

    view = PendingView(open_shards(folder), engine, pixels_of)
    (array,) = compute_views([view], lambda _missing: None, lambda: False)
    return array


def hold_shard(shards, is_held, *, lives, seconds):
    with shards.claimed(0):
        is_held.set()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(PATIENCE_SECONDS / 6)
            if lives:
                shards.show_life(0)
        shards.publish(0, features_of(shards.rows_of(0)))


def start_holder(folder, **how):
    is_held = threading.Event()
    holder = threading.Thread(
        target=hold_shard, args=(open_shards(folder), is_held), kwargs=how
    )
    holder.start()
    is_held.wait()
    return holder


def test_a_slow_holder_that_lives_loses_no_work(tmp_path):
    holder = start_holder(tmp_path / "view", lives=True, seconds=4 * PATIENCE_SECONDS)
    computed = []

    array = compute(tmp_path / "view", computed)
    holder.join()

    np.testing.assert_array_equal(array, features_of(ROWS))
    assert sorted(computed) == list(range(8, 16))


def test_the_shard_of_one_that_hangs_is_computed_here(tmp_path):
    holder = start_holder(tmp_path / "view", lives=False, seconds=4 * PATIENCE_SECONDS)
    computed = []

    array = compute(tmp_path / "view", computed)
    holder.join()

    np.testing.assert_array_equal(array, features_of(ROWS))
    assert sorted(computed) == list(range(16))


@pytest.mark.parametrize("hangs", [False, True])
def test_who_joins_is_waited_for_unless_it_hangs(tmp_path, hangs):
    shards = open_shards(tmp_path / "view")
    for shard in shards.list_missing():
        shards.publish(shard, features_of(shards.rows_of(shard)))
    is_held = threading.Event()

    def join_late():
        with feature_shards._locked(tmp_path / "view" / "join.lock") as lock:
            is_held.set()
            for _ in range(12):
                time.sleep(PATIENCE_SECONDS / 4)
                if not hangs:
                    lock.touch()
            found.append(shards.is_done)

    found = []
    joiner = threading.Thread(target=join_late)
    joiner.start()
    is_held.wait()

    array = compute(tmp_path / "view", [])
    joiner.join()

    assert found == [hangs]
    np.testing.assert_array_equal(array, features_of(ROWS))
