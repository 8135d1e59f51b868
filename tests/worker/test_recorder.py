"""Events into rows: batched, clean, and never stopped by an odd one."""

import json

import pytest

from shared.database import Database
from tests.worker.workshop import Workshop
from worker.attempt_files import AttemptFiles
from worker.recorder import POINTS_AT_ONCE, Recorder


@pytest.fixture
def shop(sqlite_url, tmp_path):
    database = Database(sqlite_url)
    yield Workshop(database, tmp_path / "data")
    database.dispose()


@pytest.fixture
def claim(shop):
    shop.submit()
    return shop.claim()


@pytest.fixture
def recorder(shop, claim):
    files = AttemptFiles(shop.storage.root, shop.folder(claim))
    files.make()
    return Recorder(shop.database, claim, files)


def metrics(seq, **values):
    return {"event": "metrics", "seq": seq, "step": seq, "values": values}


def test_points_are_written_in_batches(shop, claim, recorder):
    for seq in range(1, POINTS_AT_ONCE + 101):
        recorder.take(metrics(seq, loss=1.0))
    recorder.flush(now=True)
    first = len(shop.metrics(claim.job_id))
    recorder.flush(now=True)

    assert first == POINTS_AT_ONCE
    assert len(shop.metrics(claim.job_id)) == POINTS_AT_ONCE + 100
    assert not recorder.has_unwritten


def test_an_epoch_s_seconds_become_points_beside_its_measures(shop, claim, recorder):
    seconds = {"waited": 1.5, "spent": 85.0}
    recorder.take(metrics(1, loss=1.0) | {"seconds": seconds})
    recorder.flush(now=True)

    values = {point.name: point.value for point in shop.metrics(claim.job_id)}
    assert values == {"loss": 1.0, "waited_seconds": 1.5, "spent_seconds": 85.0}


def test_events_wait_for_the_next_second_but_a_checkpoint_does_not(
    shop, claim, recorder
):
    recorder.take(metrics(1, loss=1.0))
    recorder.flush()
    recorder.take(metrics(2, loss=1.0))
    recorder.flush()
    waiting = len(shop.metrics(claim.job_id))
    recorder.take(checkpoint_at(shop, claim, 2))
    recorder.flush()

    assert waiting == 1
    assert len(shop.metrics(claim.job_id)) == 2
    (row,) = shop.checkpoints(claim.job_id)
    assert shop.storage.resolve(row.rel_path) == shop.folder(claim) / "ckpt" / "2"


def checkpoint_at(shop, claim, step):
    return {
        "event": "checkpoint",
        "step": step,
        "kind": "periodic",
        "path": str(shop.folder(claim) / "ckpt" / str(step)),
        "manifest_sha": "a",
        "bytes": 1,
    }


def test_no_checkpoint_is_registered_before_the_points_that_led_to_it(
    shop, claim, recorder
):
    """As after a while without the database; a worker that dies leaves no gap."""
    for seq in range(1, POINTS_AT_ONCE + 101):
        recorder.take(metrics(seq, loss=1.0))
    recorder.take(checkpoint_at(shop, claim, POINTS_AT_ONCE + 100))

    recorder.flush()
    assert len(shop.metrics(claim.job_id)) == POINTS_AT_ONCE
    assert shop.checkpoints(claim.job_id) == []

    recorder.flush()
    assert len(shop.metrics(claim.job_id)) == POINTS_AT_ONCE + 100
    assert len(shop.checkpoints(claim.job_id)) == 1


@pytest.mark.parametrize(
    "event",
    [
        {"event": "metrics"},
        {"event": "metrics", "seq": "x", "step": 1, "values": {}},
        {"event": "metrics", "seq": 1, "step": -1, "values": {"loss": 1}},
        {"event": "metrics", "seq": 1, "step": 10**30, "values": {"loss": 1}},
        {"event": "metrics", "seq": 1, "step": float("inf"), "values": {"loss": 1}},
        {"event": "metrics", "seq": 1, "step": 1, "values": {"loss": "high"}},
        {"event": "metrics", "seq": 1, "step": 1, "values": [1]},
        {"event": "progress", "phase": 3, "done": 1, "total": 2},
        {"event": "checkpoint", "step": 1, "kind": "periodic", "path": "/etc/passwd",
         "manifest_sha": "a", "bytes": 1},
        {"event": "finished", "path": "/etc", "manifest_sha": "a", "bytes": 1,
         "step": 1, "summary": {}},
        {"event": "note", "level": "info"},
        {"event": "failed"},
        {"event": "durable", "what": "pack"},
        {"event": "something_new", "x": 1},
    ],
)  # fmt: skip
def test_unusable_event_is_passed_over(shop, claim, recorder, event):
    recorder.take(event)
    recorder.take(metrics(1, loss=1.0))

    assert recorder.flush(now=True)
    assert len(shop.metrics(claim.job_id)) == 1
    assert shop.checkpoints(claim.job_id) == []
    assert recorder.finished is None


def test_values_that_are_no_numbers_are_left_out(shop, claim, recorder):
    recorder.take(metrics(1, loss=None, accuracy=0.5, other=float("nan")))
    recorder.flush(now=True)

    assert [m.name for m in shop.metrics(claim.job_id)] == ["accuracy"]


def test_text_is_cleaned_for_both_databases(shop, claim, recorder):
    recorder.take(
        {"event": "note", "level": "loud", "message": "a\0b\ud800" + "x" * 9999}
    )
    recorder.flush(now=True)

    (note,) = shop.notes(claim.job_id)
    assert note.startswith("ab?xxx")
    assert len(note) == 4000


def test_progress_shows_how_long_the_phase_will_take(shop, claim, recorder):
    recorder.take({"event": "phase", "phase": "frozen"})
    progress = {"event": "progress", "phase": "frozen", "total": 4, "unit": "steps"}
    for done in (1, 2):
        recorder.take(progress | {"done": done})
    recorder.flush(now=True)

    job = shop.job(claim.job_id)
    assert (job.phase, job.progress_done, job.progress_total) == ("frozen", 2, 4)
    assert job.eta_seconds >= 0


def test_what_is_counted_in_another_unit_has_a_pace_of_its_own(shop, claim, recorder):
    progress = {"event": "progress", "phase": "prepare", "total": 40}
    for done in (1, 2):
        recorder.take(progress | {"done": done, "unit": "images"})
    recorder.take(progress | {"done": 3, "unit": "shards"})
    recorder.flush(now=True)

    assert shop.job(claim.job_id).eta_seconds is None


def test_repeating_oneself_is_no_progress(recorder):
    event = {"event": "progress", "phase": "a", "done": 1, "total": 4, "step": 1}
    recorder.take(event)
    before = recorder.progressed_at
    recorder.take(event)
    recorder.take({"event": "note", "level": "info", "message": "still here"})

    assert recorder.progressed_at == before
    recorder.take(event | {"done": 2})
    assert recorder.progressed_at > before


def test_packs_and_features_add_up(shop, claim, recorder):
    for what, done in (("pack", 1), ("pack", 2), ("features", 1)):
        recorder.take({"event": "durable", "what": what, "done": done, "total": 9})
    recorder.flush(now=True)

    assert shop.job(claim.job_id).durable == 3


def test_log_keeps_events_but_not_every_progress(shop, claim, recorder):
    recorder.take({"event": "phase", "phase": "frozen"})
    recorder.take({"event": "progress", "phase": "frozen", "done": 1, "total": 2})
    recorder.note("info", "Hello.")

    lines = (shop.folder(claim) / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["phase", "note"]


def test_where_the_start_went_is_told_once_the_first_step_is_there(
    shop, claim, recorder
):
    recorder.take({"event": "claimed", "at": 100.0})
    recorder.take({"event": "began", "at": 100.1})
    recorder.take({"event": "stage", "name": "dataset", "at": 100.4})
    recorder.flush(now=True)
    assert shop.notes(claim.job_id) == []
    recorder.take({"event": "stage", "name": "first step", "at": 101.0})
    recorder.flush(now=True)

    assert shop.notes(claim.job_id) == [
        "The first step came after 1.0 s: began 0.1, dataset 0.3, first step 0.6."
    ]
