"""What the collection of garbage removes, and above all what it leaves alone."""

import os
import time

import pytest
from sqlalchemy import update

from shared import attempt_store, feature_cache, job_store, reconcile_store
from shared.artifacts import Storage
from shared.garbage import (
    UNNAMED_SECONDS,
    UNUSED_CACHE_SECONDS,
    YOUNG_SECONDS,
    collect_garbage,
)
from shared.tables import Checkpoint, Job
from tests import factories

OLD = 2 * YOUNG_SECONDS


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path)


@pytest.fixture
def database(sqlite_database):
    return sqlite_database


@pytest.fixture
def claim(database):
    with database.transaction() as s:
        factories.make_job(s)
        return factories.claim(s)


def put(path, age_seconds=OLD):
    """Makes a file, or a folder with one in it, that was last changed so long ago."""
    then = time.time() - age_seconds
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    else:
        path.mkdir(parents=True)
        (path / "file").write_bytes(b"x")
        os.utime(path / "file", (then, then))
    os.utime(path, (then, then))
    return path


def collect(database, storage):
    return collect_garbage(database, storage, max_feature_cache_bytes=2**30)


def test_folder_of_a_deleted_job_goes_after_a_day(database, storage, claim):
    with database.transaction() as s:
        attempt_store.end(
            s, claim.job_id, 1, outcome="failed", charge=False, permanent=True
        )
        last = factories.make_job(s)
        job_store.delete_job(s, claim.job_id, actor="user:1")
    gone, young = storage.job(claim.job_id), storage.job(last)
    put(gone)

    assert collect(database, storage) == [f"jobs/{claim.job_id}"]
    put(gone, age_seconds=60)
    put(young)
    assert collect(database, storage) == []


def test_folder_with_a_number_that_no_row_ever_had_stays(database, storage, claim):
    strange = put(storage.job(claim.job_id + 1))

    assert collect(database, storage) == []
    assert strange.exists()


def test_nothing_goes_by_the_records_of_an_empty_database(database, storage):
    kept = [
        put(storage.job(1)),
        put(storage.dataset(1)),
        put(storage.root / "artifacts" / "sha256" / "aa" / "a.zip"),
    ]

    assert collect(database, storage) == []
    assert all(path.exists() for path in kept)


def test_running_attempt_keeps_whatever_it_writes(database, storage, claim):
    attempt = storage.attempt(claim.job_id, claim.fence, claim.attempt_uuid)
    put(attempt / "ckpt" / "000000000001")
    put(attempt / "final")

    assert collect(database, storage) == []


def test_ended_attempt_keeps_its_log_and_its_registered_checkpoints(
    database, storage, claim
):
    attempt = storage.attempt(claim.job_id, claim.fence, claim.attempt_uuid)
    known, unknown = (put(attempt / "ckpt" / f"{n:012d}") for n in (1, 2))
    log = put(attempt / "log.jsonl")
    with database.transaction() as s:
        factories.checkpoint(
            s, claim.job_id, claim.fence, 1, rel_path=storage.relative(known)
        )
        attempt_store.end(s, claim.job_id, claim.fence, outcome="lost", charge=False)

    assert collect(database, storage) == [storage.relative(unknown)]
    assert known.exists()
    assert log.exists()


def test_three_newest_checkpoints_and_the_best_stay(database, storage, claim):
    attempt = storage.attempt(claim.job_id, claim.fence, claim.attempt_uuid)
    losses = {1: 0.9, 2: 0.1, 3: 0.8, 4: 0.7, 5: 0.6, 6: 0.5}
    with database.transaction() as s:
        for step, loss in losses.items():
            folder = put(attempt / "ckpt" / f"{step:012d}", age_seconds=0)
            path = storage.relative(folder)
            factories.checkpoint(s, claim.job_id, 1, step, rel_path=path, metric=loss)

    collect(database, storage)

    with database.reading() as s:
        rows = attempt_store.list_resume_checkpoints(s, claim.job_id, 0)
    assert [row.step for row in rows] == [6, 5, 4, 2]
    assert sorted(int(f.name) for f in (attempt / "ckpt").iterdir()) == [2, 4, 5, 6]


def test_best_is_the_highest_where_accuracy_is_watched(database, storage):
    with database.transaction() as s:
        job_id = factories.make_job(s, spec={"training": {"monitor": "val_accuracy"}})
        claim = factories.claim(s)
        for step, accuracy in {1: 0.2, 2: 0.9, 3: 0.5, 4: 0.6, 5: 0.7}.items():
            factories.checkpoint(s, job_id, claim.fence, step, metric=accuracy)

    collect(database, storage)

    with database.reading() as s:
        rows = attempt_store.list_resume_checkpoints(s, job_id, 0)
    assert [row.step for row in rows] == [5, 4, 3, 2]


def test_removal_that_was_cut_short_is_finished_by_the_next(database, storage, claim):
    attempt = storage.attempt(claim.job_id, claim.fence, claim.attempt_uuid)
    with database.transaction() as s:
        for step in range(1, 7):
            folder = put(attempt / "ckpt" / f"{step:012d}")
            factories.checkpoint(
                s, claim.job_id, 1, step, rel_path=storage.relative(folder)
            )
        reconcile_store.take_superfluous_checkpoints(s, 10)  # and then it was killed

    collect(database, storage)

    with database.reading() as s:
        statuses = {row.status for row in s.query(Checkpoint)}
    assert statuses == {"ok"}
    assert sorted(int(f.name) for f in (attempt / "ckpt").iterdir()) == [4, 5, 6]


def test_only_files_that_no_version_names_go(database, storage, claim):
    named, unnamed = (
        put(storage.root / "artifacts" / "sha256" / sha[:2] / sha, age_seconds=0)
        for sha in ("a" * 64, "b" * 64)
    )
    for path in (named, unnamed):
        os.utime(path, (0, 0))
    with database.transaction() as s:
        factories.complete(s, claim.job_id, claim.fence)

    assert collect(database, storage) == [storage.relative(unnamed)]


def test_upload_of_a_job_that_may_be_tried_again_stays(database, storage):
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        dataset_id = factories.make_dataset(s, owner_id).id
        path = str(storage.upload("needed") / "a.zip")
        job_id = factories.make_job(
            s,
            owner_id,
            kind="ingest",
            dataset_id=dataset_id,
            spec={"sources": [{"path": path}]},
        )
        s.execute(update(Job).values(state="failed"))
    put(storage.upload("needed"))
    put(storage.upload("forgotten"))

    assert collect(database, storage) == ["uploads/forgotten"]
    with database.transaction() as s:
        s.execute(update(Job).where(Job.id == job_id).values(state="succeeded"))
    assert collect(database, storage) == ["uploads/needed"]


def test_slow_upload_is_as_young_as_its_newest_byte(database, storage):
    folder = put(storage.upload("slow"))
    os.utime(folder / "file")

    assert collect(database, storage) == []


def test_dataset_that_is_being_read_keeps_its_unpublished_folder(database, storage):
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        dataset_id = factories.make_dataset(s, owner_id).id
        factories.make_job(s, owner_id, kind="ingest", dataset_id=dataset_id)
        claim = factories.claim(s)
    unpublished = put(storage.dataset_version(dataset_id, f"{claim.job_id}-1"))

    assert collect(database, storage) == []
    with database.transaction() as s:
        attempt_store.end(
            s, claim.job_id, 1, outcome="failed", charge=False, permanent=True
        )
    assert collect(database, storage) == [storage.relative(unpublished)]


def test_caches_go_when_nothing_needs_them_any_more(database, storage):
    pack = put(storage.root / "packs" / "f1")
    used, unused = storage.features("used"), storage.features("unused")
    for folder in (used, unused):
        put(folder, age_seconds=2 * UNUSED_CACHE_SECONDS)
    feature_cache.hold(used).close()
    engine = put(storage.root / "engines" / "a.onnx", 2 * UNUSED_CACHE_SECONDS)
    put(storage.root / "engines" / "b.onnx", UNUSED_CACHE_SECONDS / 2)

    assert collect(database, storage) == [
        storage.relative(pack),
        storage.relative(engine),
        storage.relative(unused),
    ]


def test_features_above_the_limit_go_in_the_order_of_their_last_use(database, storage):
    names = ["first", "second", "third"]
    for age_days, name in zip((3, 2, 1), names, strict=True):
        put(storage.features(name), age_seconds=age_days * 86400)
    one_bytes = (storage.features("first") / "file").stat().st_blocks * 512
    feature_cache.hold(storage.features("first")).close()

    removed = collect_garbage(database, storage, max_feature_cache_bytes=2 * one_bytes)

    assert removed == [storage.relative(storage.features("second"))]
    assert storage.features("first").exists()


class TestWhatAnIngestLeaves:
    """Unpacked files and proofs, which no row ever names."""

    def put_all(self, storage, claim, age_seconds=OLD):
        folder = storage.attempt(claim.job_id, claim.fence, claim.attempt_uuid)
        return [
            put(folder / name, age_seconds)
            for name in ("scratch", ".tmp-final-1", "proofs")
        ]

    def test_running_attempt_keeps_all(self, database, storage, claim):
        self.put_all(storage, claim)

        assert collect(database, storage) == []

    def test_job_that_goes_on_keeps_only_its_proofs(self, database, storage, claim):
        scratch, temporary, _ = self.put_all(storage, claim)
        end(database, claim, "lost")

        gone = {storage.relative(path) for path in (scratch, temporary)}
        assert set(collect(database, storage)) == gone

    def test_job_that_is_over_keeps_nothing(self, database, storage, claim):
        left = self.put_all(storage, claim)
        end(database, claim, "failed", permanent=True)

        assert set(collect(database, storage)) == {storage.relative(p) for p in left}

    def test_they_wait_for_an_hour(self, database, storage, claim):
        self.put_all(storage, claim, UNNAMED_SECONDS - 60)
        end(database, claim, "failed", permanent=True)

        assert collect(database, storage) == []


def end(database, claim, outcome, **how):
    with database.transaction() as s:
        attempt_store.end(
            s, claim.job_id, claim.fence, outcome=outcome, charge=False, **how
        )
