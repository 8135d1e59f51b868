"""The engine as a child process: exit codes, signals, and what it publishes."""

import json
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from shared.training_spec import parse_training_spec
from tests.worker.training.engine_process import (
    ROOT,
    Engine,
    read_arrays,
    run_killed_at,
    run_to_end,
    run_until_trained,
    write_spec,
)
from tests.worker.training.pictures import write_pictures
from worker.training import determinism, variables
from worker.training.build_model import build_base

pytestmark = pytest.mark.timeout(300)

TRAINING = {
    "base_model": "MobileNet-0.25",
    "weights": None,
    "image_size_px": 32,
    "batch_size": 8,
    "frozen_epochs": 2,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pictures"
    write_pictures(folder, each=12, side=32)
    return folder


def write_broken_weights(path):
    """Weights of the right network whose first number is none."""
    spec = parse_training_spec(TRAINING)
    base = build_base(spec)
    kernel = next(layer for layer in base.layers if layer.weights).weights[0]
    values = np.array(keras.ops.convert_to_numpy(kernel))
    values.flat[0] = np.nan
    kernel.assign(values)
    base.save_weights(path)
    return path


def refuse(tmp_path, dataset, training):
    """Runs what must be refused; returns the exit code and the last event."""
    spec = write_spec(tmp_path / "SPEC.json", dataset, training)
    engine = Engine(spec, tmp_path / "work")
    code = engine.finish()
    return code, engine.events[-1]


def test_an_unknown_setting_is_refused_by_name_before_anything_is_read(tmp_path):
    code, last = refuse(tmp_path, tmp_path / "absent", {"bach_size": 3})

    assert code == 64
    assert (last["event"], last["permanent"]) == ("failed", True)
    assert "`bach_size`" in last["message"]


def test_a_dataset_that_is_not_there_is_refused(tmp_path):
    code, last = refuse(tmp_path, tmp_path / "absent", TRAINING)

    assert code == 64
    assert last["code"] == "dataset"


def test_a_loss_that_is_no_number_is_told_with_its_cure(tmp_path, dataset):
    # Five linear-ish layers under a huge rate multiply each other's growth: float32
    # overflows at the sixth step for any seed.
    wild = TRAINING | {"optimizer": "sgd", "frozen_learning_rate": 10, "batch_size": 2}
    wild |= {"head": {"units": [64] * 5, "dropout": 0}}

    code, last = refuse(tmp_path, dataset, wild)

    assert code == 64
    assert last["code"] == "training.frozen_learning_rate"
    assert "Lower `frozen_learning_rate`" in last["message"]


def test_weights_that_hold_no_numbers_are_told_as_the_cause(tmp_path, dataset):
    broken = write_broken_weights(tmp_path / "broken.weights.h5")
    training = TRAINING | {"weights": broken.name}
    spec = write_spec(
        tmp_path / "SPEC.json", dataset, training, weights_dirs=[str(tmp_path)]
    )
    engine = Engine(spec, tmp_path / "work")

    code = engine.finish()

    assert code == 64
    assert engine.events[-1]["code"] == "training.weights"
    assert "before anything was learned" in engine.events[-1]["message"]


def test_a_layer_that_is_not_there_is_told_before_training_begins(tmp_path, dataset):
    wish = TRAINING | {"fine_tune_epochs": 1, "unfreeze_from": "conv_pw_99"}
    spec = write_spec(tmp_path / "SPEC.json", dataset, wish)
    engine = Engine(spec, tmp_path / "work")

    code = engine.finish()

    assert code == 64
    assert engine.events[-1]["code"] == "unfreeze_from"
    assert "conv_pw_9" in engine.events[-1]["message"]
    assert [event["phase"] for event in engine.named("phase")] == ["prepare"]


def test_a_changed_dataset_is_trained_anew_in_the_same_folder(tmp_path, dataset):
    grown = tmp_path / "grown"
    shutil.copytree(dataset, grown)
    spec = write_spec(tmp_path / "SPEC.json", grown, TRAINING)
    first = run_to_end(spec, tmp_path / "work")
    shutil.copytree(dataset / "class0", grown / "class2")
    for picture in (grown / "class2").iterdir():  # another content, another picture
        picture.write_bytes(picture.read_bytes() + b"\0")

    second = run_to_end(spec, tmp_path / "work")
    third = run_to_end(spec, tmp_path / "work")

    assert second.named("metrics")
    assert not third.named("metrics"), "nothing had changed"
    evaluation = json.loads((tmp_path / "work/final/evaluation.json").read_text())
    assert evaluation["classes"] == ["class0", "class1", "class2"]
    assert first.named("finished")[0]["summary"]["images"] < evaluation["images"]


def test_finishing_now_publishes_the_best_so_far(tmp_path, dataset):
    long = TRAINING | {"frozen_epochs": 1000, "early_stopping_patience": None}
    spec = write_spec(tmp_path / "SPEC.json", dataset, long)
    engine = Engine(spec, tmp_path / "work")
    engine.watch(lambda event: event["event"] == "metrics")

    engine.kill(signal.SIGUSR2)
    code = engine.finish()

    assert code == 0
    assert len(engine.named("metrics")) < 1000
    summary = engine.named("finished")[0]["summary"]
    assert summary["best"]["phase"] == "frozen"
    assert 0 <= summary["accuracy"] <= 1
    assert summary["loss"] > 0


def test_a_fine_tuning_that_hurts_is_discarded_and_said(tmp_path, dataset):
    harmful = TRAINING | {"fine_tune_epochs": 1, "fine_tune_learning_rate": 0.5}
    harmful |= {"frozen_epochs": 10, "optimizer": "adam", "unfreeze_from": 0.0}
    spec = write_spec(tmp_path / "SPEC.json", dataset, harmful)

    engine = run_to_end(spec, tmp_path / "work")

    assert engine.named("finished")[0]["summary"]["best"]["phase"] == "frozen"
    assert "No epoch of fine-tuning improved" in engine.named("note")[-1]["message"]
    assert_published_before_fine_tuning(engine, harmful)


def assert_published_before_fine_tuning(engine, training):
    """The SavedModel has the frozen phase's head and the untouched base, to the bit."""
    began = [e for e in engine.events if e["event"] in {"phase", "checkpoint"}]
    border = began[[e.get("phase") for e in began].index("fine_tune") - 1]
    assert border["event"] == "checkpoint"
    arrays = read_arrays(Path(border["path"]))
    head = [value for (group, *_), value in arrays.items() if group == "best"]
    spec = parse_training_spec(training)
    determinism.start_model(spec.seed)
    base = [array.value.tobytes() for array in variables.read(build_base(spec).weights)]

    with zipfile.ZipFile(engine.workdir / "final" / "saved_model.zip") as archive:
        archive.extractall(engine.workdir / "unpacked")
    (index,) = (engine.workdir / "unpacked").rglob("variables.index")
    stored = tf.train.load_checkpoint(str(index.with_suffix("")))
    published = {
        np.asarray(stored.get_tensor(name)).tobytes()
        for name in stored.get_variable_to_shape_map()
        if not name.startswith("_CHECKPOINTABLE")
    }
    assert head
    assert published.issuperset(head)
    assert published.issuperset(base)


def test_a_run_publishes_everything_a_user_downloads(tmp_path, dataset):
    spec = write_spec(tmp_path / "SPEC.json", dataset, TRAINING)

    engine = run_to_end(spec, tmp_path / "work", cold=True)

    final = tmp_path / "work" / "final"
    assert {path.name for path in final.iterdir()} == {
        "MANIFEST.json",
        "evaluation.json",
        "model_card.md",
        "predictions.parquet",
        "saved_model.zip",
    }
    evaluation = json.loads((final / "evaluation.json").read_text())
    assert evaluation["parity"]["serving_labels_equal"]
    assert set(evaluation["seconds"]) == {"prepare", "frozen", "evaluate", "export"}
    phases = [event["phase"] for event in engine.named("phase")]
    assert phases == ["prepare", "frozen", "evaluate", "export"]
    for event in engine.named("metrics"):
        assert 0 < event["seconds"]["waited"] < event["seconds"]["spent"]


def test_a_stop_while_frameworks_load_ends_at_once(tmp_path, dataset):
    spec = write_spec(tmp_path / "SPEC.json", dataset, TRAINING)
    engine = Engine(spec, tmp_path / "work", cold=True)
    engine.watch(lambda event: event["event"] == "phase")

    engine.kill(signal.SIGTERM)

    assert engine.finish() == 75


IMPATIENT = """
import sys
from worker.training import phases, run
phases._LONGEST_UNSAVED_SECONDS, phases._WRITES_APART = 0.0, {apart}
run.leave(run.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("apart", "is_often"), [(0, True), (1e6, False)])
def test_a_long_epoch_is_saved_within_unless_that_would_take_its_time(
    tmp_path, dataset, apart, is_often
):
    training = TRAINING | {
        "batch_size": 1,
        "frozen_epochs": 40,
        "early_stopping_patience": None,
        "checkpoint_every": {"epochs": 1000},
    }
    spec = write_spec(tmp_path / "SPEC.json", dataset, training)
    code = IMPATIENT.format(apart=apart)

    done = subprocess.run(
        [sys.executable, "-c", code, str(spec), str(tmp_path / "work")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    events = [json.loads(line) for line in done.stdout.splitlines()]
    saved = [
        e for e in events if e["event"] == "checkpoint" and e["kind"] == "periodic"
    ]
    # The end of the phase, and two that fall due before the first has been written.
    assert (len(saved) > 3) is is_often


# Far too much for a network from scratch that nothing keeps in bounds.
DIVERGING = {
    "base_model": "VGG16",
    "weights": None,
    "image_size_px": 32,
    "batch_size": 8,
    "frozen_epochs": 0,
    "fine_tune_epochs": 4,
    "unfreeze_from": 0,
    "optimizer": "sgd",
    "fine_tune_learning_rate": 10,
    "early_stopping_patience": None,
}


def diverge(tmp_path, dataset, divergences):
    """Runs it as a supervisor does; returns the exit code and the engine."""
    spec = write_spec(
        tmp_path / "SPEC.json", dataset, DIVERGING,
        resume_from=[], divergences=divergences,
    )  # fmt: skip
    engine = Engine(spec, tmp_path / "work")
    return engine.finish(), engine


@pytest.mark.parametrize("before", [{}, {"fine_tune": 1, "frozen": 2}])
def test_a_loss_that_is_no_number_asks_for_another_attempt(tmp_path, dataset, before):
    code, engine = diverge(tmp_path, dataset, before)

    (failed,) = engine.named("failed")
    assert (code, failed["code"], failed["permanent"]) == (72, "diverged", False)
    assert "half the learning rate" in failed["message"]


def test_the_third_time_the_best_epoch_so_far_is_published(tmp_path, dataset):
    code, engine = diverge(tmp_path, dataset, {"fine_tune": 2})

    assert code == 0, engine.errors()
    assert len(engine.named("metrics")) == 1
    said = [event["message"] for event in engine.named("note")]
    assert any("no longer a number" in sentence for sentence in said)


def test_each_divergence_of_a_phase_halves_its_rate(tmp_path, dataset):
    calm = DIVERGING | {
        "base_model": "MobileNetV2-0.35",
        "fine_tune_learning_rate": 1e-4, "fine_tune_epochs": 1,
        "learning_rate_schedule": "constant",
    }  # fmt: skip
    rates = []
    for number, divergences in enumerate([{}, {"fine_tune": 2, "frozen": 1}]):
        spec = write_spec(
            tmp_path / f"{number}.json", dataset, calm,
            resume_from=[], divergences=divergences,
        )  # fmt: skip
        engine = run_until_trained(spec, tmp_path / f"work-{number}")
        rates.append(engine.named("metrics")[0]["values"]["learning_rate"])

    assert rates[1] == pytest.approx(rates[0] / 4)


def test_a_divergence_halves_the_rate_that_a_checkpoint_holds(tmp_path, dataset):
    still = {
        "base_model": "MobileNet-0.25", "weights": None, "image_size_px": 32,
        # A slow disk saves few of these short epochs: there must be some left after it.
        "batch_size": 8, "frozen_epochs": 200, "early_stopping_patience": None,
        # Nothing gets better at such a rate, so that it is cut after every epoch.
        "frozen_learning_rate": 1e-9, "monitor": "val_accuracy",
        "learning_rate_schedule": "plateau", "plateau_patience": 1,
    }  # fmt: skip
    spec = write_spec(tmp_path / "1.json", dataset, still, resume_from=[])
    first, rates = Engine(spec, tmp_path / "1"), {}

    def is_saved_on_plateau(event):
        if event["event"] == "metrics":
            rates[event["step"]] = event["values"]["learning_rate"]
        # The first epoch improves on nothing; a slow machine saves within epochs too.
        return event["event"] == "checkpoint" and event["step"] in [*rates][1:]

    saved = first.watch(is_saved_on_plateau)
    first.kill()
    first.finish()
    spec = write_spec(
        tmp_path / "2.json", dataset, still, divergences={"frozen": 1},
        resume_from=[{"path": saved["path"], "manifest_sha": saved["manifest_sha"]}],
    )  # fmt: skip

    second = run_killed_at(
        spec, tmp_path / "2", lambda event: event["event"] == "metrics"
    )

    # One cut by the schedule, as after every epoch, and one for the divergence.
    rate = second.named("metrics")[0]["values"]["learning_rate"]
    assert second.named("resumed")[0]["step"] == saved["step"]
    assert rate == pytest.approx(rates[saved["step"]] / 4)
