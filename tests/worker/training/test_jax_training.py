"""The same spec under KERAS_BACKEND=jax: trained, killed, resumed and published."""

import errno
import json
import shutil

import pytest

from tests.worker.training.engine_process import (
    Engine,
    epoch_metrics,
    newest_checkpoint,
    read_arrays,
    read_result,
    run_killed_at,
    run_to_end,
    write_spec,
)
from tests.worker.training.pictures import write_pictures
from worker.training.backend_change import go_on_under_tensorflow
from worker.training.request import load_request

# In one process, so that what its tests share is made once.
pytestmark = [pytest.mark.xdist_group("jax training"), pytest.mark.timeout(600)]

JAX = {"KERAS_BACKEND": "jax"}
TRAINING = {
    "base_model": "MobileNet-0.25",
    "weights": None,
    "image_size_px": 32,
    "batch_size": 4,
    "head": {"units": [8], "dropout": 0.3},
    "frozen_epochs": 3,
    "fine_tune_epochs": 2,
    "fine_tune_learning_rate": 1e-3,
    "unfreeze_from": 0.5,
    "batch_norm": "trained",
    "feature_maps": "blocks",
    "early_stopping_patience": None,
    "checkpoint_every": {"steps": 4},
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jax")
    write_pictures(folder / "pictures", each=15, side=32)
    return write_spec(folder / "SPEC.json", folder / "pictures", TRAINING)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, spec):
    """Under a supervisor, which names the checkpoints there were before: none."""
    folder = tmp_path_factory.mktemp("straight")
    supervised = json.loads(spec.read_text()) | {"resume_from": []}
    (folder / "SPEC.json").write_text(json.dumps(supervised))
    return run_to_end(folder / "SPEC.json", folder, **JAX)


def test_jax_trains_and_tensorflow_publishes_in_one_process(straight):
    evaluation, _ = read_result(straight.workdir)

    assert [event["phase"] for event in straight.named("phase")] == [
        "prepare",
        "frozen",
        "fine_tune",
        "prepare",
        "evaluate",
        "export",
    ]
    assert len(straight.named("finished")) == 1
    (resumed,) = straight.named("resumed")
    assert (resumed["phase"], resumed["step"]) == ("evaluate", 30)
    assert evaluation["parity"]["pixels_max_abs_diff"] <= 1e-5


def test_a_training_whose_end_found_no_space_is_not_trained_again(
    tmp_path, spec, straight
):
    before = sorted((straight.workdir / "ckpt").glob("[0-9]*"))[-2]
    shutil.copytree(before, tmp_path / "ckpt" / before.name)

    with pytest.raises(OSError, match="No space is left") as raised:
        go_on_under_tensorflow(spec, load_request(spec, tmp_path))

    assert raised.value.errno == errno.ENOSPC


def test_killed_under_jax_it_ends_as_if_nothing_had_happened(tmp_path, spec, straight):
    def at_step(step):
        return lambda event: event["event"] == "checkpoint" and event["step"] >= step

    def in_export(event):
        return event["event"] == "phase" and event["phase"] == "export"

    work = tmp_path / "work"
    attempts = [
        run_killed_at(spec, work, at_step(8), **JAX),
        run_killed_at(spec, work, at_step(24), **JAX),
        run_killed_at(spec, work, in_export, **JAX),
        run_to_end(spec, work, **JAX),
    ]

    ours, theirs = newest_checkpoint(work), newest_checkpoint(straight.workdir)
    assert ours.name == theirs.name
    assert read_arrays(ours) == read_arrays(theirs)
    assert read_result(work) == read_result(straight.workdir)
    assert epoch_metrics(*attempts) == epoch_metrics(straight)


def test_another_backend_is_refused_by_name(tmp_path, spec):
    engine = Engine(spec, tmp_path / "work", KERAS_BACKEND="numpy")

    assert engine.finish() == 64
    (failed,) = engine.named("failed")
    assert "KERAS_BACKEND must be one of tensorflow, jax" in failed["message"]
