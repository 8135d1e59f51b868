"""The promise: n steps straight are k steps, kill -9, and n - k steps, to the bit."""

import json
import signal

import pytest

from tests.worker.training.engine_process import (
    epoch_metrics,
    kill_while_writing,
    newest_checkpoint,
    read_arrays,
    read_result,
    run_killed_at,
    run_to_end,
    run_until_trained,
    write_spec,
)
from tests.worker.training.pictures import write_pictures

# In one process, so that what its tests share is made once.
pytestmark = [pytest.mark.xdist_group("resume"), pytest.mark.timeout(600)]

# 21 training images make six steps an epoch; a checkpoint every four steps falls into
# the middle of most epochs.
TRAINING = {
    "base_model": "MobileNet-0.25",
    "weights": None,
    "image_size_px": 32,
    "batch_size": 4,
    "head": {"units": [8], "dropout": 0.3},
    "feature_views": 2,
    "frozen_epochs": 4,
    "fine_tune_epochs": 3,
    "fine_tune_learning_rate": 1e-3,
    "unfreeze_from": 0.5,
    "class_weights": "balanced",
    "label_smoothing": 0.05,
    "early_stopping_patience": None,
    "checkpoint_every": {"steps": 4},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pictures"
    write_pictures(folder, each=15, side=32)
    return folder


@pytest.fixture(scope="module")
def spec(tmp_path_factory, dataset):
    path = tmp_path_factory.mktemp("spec") / "SPEC.json"
    return write_spec(path, dataset, TRAINING)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, spec):
    """The uninterrupted run that every other one must equal."""
    # In a Python of its own: those that resume are forked (`warm_children`).
    return run_to_end(spec, tmp_path_factory.mktemp("straight"), cold=True)


def in_phase(name):
    return lambda event: event["event"] == "phase" and event["phase"] == name


def at_checkpoint(step):
    return lambda event: event["event"] == "checkpoint" and event["step"] >= step


def past_step(step):
    return lambda event: (event.get("step") or 0) >= step


def assert_same(straight, *attempts):
    last = attempts[-1]
    ours, theirs = newest_checkpoint(last.workdir), newest_checkpoint(straight.workdir)
    assert ours.name == theirs.name
    assert read_arrays(ours) == read_arrays(theirs)
    assert epoch_metrics(*attempts) == epoch_metrics(straight)


def assert_same_result(straight, *attempts):
    assert_same(straight, *attempts)
    assert read_result(attempts[-1].workdir) == read_result(straight.workdir)


def test_a_job_killed_seven_times_ends_as_if_nothing_had_happened(
    tmp_path, spec, straight
):
    work = tmp_path / "work"

    attempts = [
        run_killed_at(spec, work, in_phase("prepare")),
        run_killed_at(spec, work, in_phase("frozen")),
        run_killed_at(spec, work, at_checkpoint(8)),
        run_killed_at(spec, work, in_phase("fine_tune")),
        kill_while_writing(spec, work, past_step(25)),
        run_killed_at(spec, work, past_step(33)),
        run_killed_at(spec, work, in_phase("evaluate")),
        run_to_end(spec, work),
    ]

    assert [attempt.code for attempt in attempts[:-1]] == [-signal.SIGKILL] * 7
    resumed = [attempt.named("resumed") for attempt in attempts]
    assert [bool(events) for events in resumed] == [False] * 3 + [True] * 5
    assert not attempts[-1].named("metrics"), "training had ended: nothing to train"
    assert_same_result(straight, *attempts)


def test_a_stop_saves_the_step_it_has_reached(tmp_path, spec, straight):
    work = tmp_path / "work"

    frozen = run_killed_at(spec, work, past_step(1), signal.SIGTERM)
    tuning = run_killed_at(spec, work, past_step(27), signal.SIGTERM)
    last = run_until_trained(spec, work)

    assert (frozen.code, tuning.code) == (75, 75)
    for stopped, resumed in ((frozen, tuning), (tuning, last)):
        saved = stopped.named("checkpoint")[-1]
        assert saved["kind"] == "emergency"
        assert resumed.named("resumed")[0]["step"] == saved["step"]
    assert_same(straight, frozen, tuning, last)


def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path, spec, straight):
    work = tmp_path / "work"
    killed = run_killed_at(spec, work, at_checkpoint(16))
    damaged = newest_checkpoint(work)
    arrays = damaged / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:-50])

    resumed = run_until_trained(spec, work)

    (corrupt,) = resumed.named("checkpoint_corrupt")
    assert corrupt["path"] == str(damaged)
    assert resumed.named("resumed")[0]["step"] < int(damaged.name)
    assert "Damaged checkpoints" in resumed.named("note")[0]["message"]
    assert_same(straight, killed, resumed)


def test_a_supervised_attempt_resumes_another_attempt_s_checkpoint(
    tmp_path, dataset, spec, straight
):
    first = run_killed_at(spec, tmp_path / "1", at_checkpoint(8))
    saved = first.named("checkpoint")[-1]
    rows = [
        {"path": str(tmp_path / "gone"), "manifest_sha": "0" * 64},
        {"path": saved["path"], "manifest_sha": saved["manifest_sha"]},
    ]
    supervised = write_spec(
        tmp_path / "SPEC.json",
        dataset,
        TRAINING,
        resume_from=rows,
        caches=str(tmp_path / "1" / "caches"),
        missing_checkpoint_seconds=0.1,
        job={"id": 1, "fence": 2},
    )

    second = run_to_end(supervised, tmp_path / "2")

    assert second.named("resumed")[0]["step"] == saved["step"]
    assert second.named("checkpoint_corrupt")[0]["path"] == str(tmp_path / "gone")
    manifest = json.loads((tmp_path / "2/final/MANIFEST.json").read_text())
    assert manifest["fence"] == 2
    assert_same_result(straight, first, second)


def test_a_finished_run_says_so_again_and_does_nothing(straight, spec):
    again = run_to_end(spec, straight.workdir)

    (first,), (second,) = straight.named("finished"), again.named("finished")
    assert {k: v for k, v in first.items() if k != "at"} == {
        k: v for k, v in second.items() if k != "at"
    }
    assert not again.named("metrics")
