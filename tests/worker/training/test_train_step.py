"""A step's result does not depend on how many passes it takes, nor on failed ones."""

import json
from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest

from shared.errors import UserError
from shared.training_spec import parse_training_spec
from tests.worker.training.engine_process import write_spec
from tests.worker.training.hungry_layer import Hungry
from tests.worker.training.pictures import build_pack
from worker.training import (
    checkpoint,
    determinism,
    jit_choice,
    materials,
    phases,
    variables,
    versions,
)
from worker.training.background_writer import BackgroundWriter
from worker.training.batches import FeatureBatches
from worker.training.best_weights import BestWeights
from worker.training.phase_setup import Material
from worker.training.replicas import Replicas
from worker.training.request import Candidate, load_request
from worker.training.stop_requests import StopRequests
from worker.training.train_step import DeviceMemoryTooSmall, TrainStep
from worker.training.training_state import Stopwatch, TrainingState

# In one process and early: TensorFlow waits ten seconds for memory before it gives up,
# fifteen times in all, and others work meanwhile.
pytestmark = pytest.mark.xdist_group("train step")

CLASSES, FEATURES, IMAGES = 3, 5, 12


def build_step(
    images_per_pass=IMAGES,
    *,
    most=10**6,
    dropout=0.0,
    optimizer="adamw",
    extra=None,
):
    determinism.start_model(0)
    features = keras.Input((FEATURES,), name="features")
    x = keras.layers.Dense(8, activation="relu", name="hidden")(features)
    x = (extra or Hungry(most))(x)
    x = keras.layers.Dropout(dropout, seed=1, name="drop")(x)
    x = keras.layers.Dense(CLASSES, activation="softmax", name="probabilities")(x)
    model = keras.Model(features, x)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(optimizer=optimizer, loss=loss)
    return TrainStep(model, images_per_pass=images_per_pass, replicas=Replicas())


def draw_batch(images=IMAGES, *, weighted=False):
    random = np.random.default_rng(images)
    inputs = random.normal(size=(images, FEATURES)).astype(np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[random.integers(CLASSES, size=images)]
    if not weighted:
        return inputs, labels
    return inputs, labels, random.uniform(0.5, 2, images).astype(np.float32)


def values_of(step):
    arrays = variables.read_all(step.model)
    return [item.value for items in arrays.values() for item in items]


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_does_what_keras_itself_does(weighted):
    ours, theirs = build_step(dropout=0.3), build_step(dropout=0.3)
    batch = draw_batch(weighted=weighted)

    for _ in range(3):
        logs = ours.train(batch)
        loss = theirs.model.train_on_batch(*batch)

    assert logs["loss"] == pytest.approx(float(loss), rel=1e-6)
    for mine, other in zip(values_of(ours), values_of(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("images_per_pass", [1, 3, 5, 6, 11])
def test_passes_add_up_to_the_whole_batch(images_per_pass):
    # SGD: its update is the gradient itself, at its own scale.
    whole = build_step(optimizer="sgd")
    parted = build_step(images_per_pass, optimizer="sgd")
    batch = draw_batch(weighted=True)

    for _ in range(3):
        expected, logs = whole.train(batch), parted.train(batch)

    assert logs == pytest.approx(expected, rel=1e-5)
    for mine, other in zip(values_of(parted), values_of(whole), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_one_step_is_one_update_of_the_schedule_however_many_passes_it_takes():
    step = build_step(2)

    step.train(draw_batch())

    assert int(step.model.optimizer.iterations) == 1


def test_each_pass_drops_other_units_and_a_repeated_run_the_same():
    def train():
        step = build_step(4, dropout=0.5)
        step.train(draw_batch())
        return values_of(step)

    first, again = train(), train()

    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    (draws,) = [value for value in first if value.dtype == np.int64 and value.size == 2]
    assert draws[1] == 3, "three passes, three draws"


def test_a_pass_that_does_not_fit_leaves_everything_as_it_was():
    step = build_step(most=4, dropout=0.5)
    before = values_of(step)

    with pytest.raises(DeviceMemoryTooSmall) as raised:
        step.train(draw_batch())

    assert type(raised.value.__cause__).__name__ == "ResourceExhaustedError"
    for mine, other in zip(values_of(step), before, strict=True):
        assert np.array_equal(mine, other)


def test_other_errors_are_not_taken_for_too_little_memory():
    step = build_step()

    with pytest.raises(Exception, match=r"shape|incompatible") as raised:
        step.train((draw_batch()[0], np.ones((IMAGES, CLASSES + 1), np.float32)))

    assert raised.type is not DeviceMemoryTooSmall


class Lab:
    """Trains a phase of one small model, with checkpoints in a folder."""

    def __init__(self, folder, **spec):
        self.spec = parse_training_spec({"frozen_epochs": 2, "batch_size": 8} | spec)
        facts = {"spec_sha": "", "fence": None, "versions": {}}
        self.writer = BackgroundWriter(
            checkpoint.CheckpointWriter(folder, facts, prune=False)
        )
        self.folder = folder

    def train(self, step, state, arrays=None, **options):
        rows = np.arange(24)
        random = np.random.default_rng(3)
        train = FeatureBatches(
            [random.normal(size=(24, FEATURES)).astype(np.float32)],
            labels=random.integers(CLASSES, size=24),
            rows=rows,
            classes=CLASSES,
            batch_size=self.spec.batch_size,
            seed=0,
            shuffle=True,
        )

        def validate():
            return {"val_loss": 1.0 / state.epoch, "val_accuracy": 0.5}

        phase = phases.Phase(
            name="frozen",
            next_name="evaluate",
            model=step.model,
            step=step,
            train=train,
            epochs=self.spec.frozen_epochs,
            first_epoch=0,
            makers=0,
            **({"validate": validate} | options),
        )
        phases.Trainer(
            self.spec,
            state,
            best=BestWeights(self.spec, state, []),
            checkpoints=self.writer,
            stops=StopRequests(),
            stopwatch=Stopwatch({}, "frozen"),
        ).train(phase, arrays)
        return values_of(step)

    def saved(self):
        paths = checkpoint.list_checkpoints(self.folder)
        return [json.loads((p / "state.json").read_text())["state"] for p in paths]


def read_notes(capfd):
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    return [event["message"] for event in events if event["event"] == "note"]


def test_too_little_memory_halves_the_passes_says_so_and_goes_on(tmp_path, capfd):
    state = TrainingState()

    starved = Lab(tmp_path / "starved").train(build_step(8, most=3, dropout=0.5), state)

    notes = read_notes(capfd)
    assert [note.split(" did not fit")[0] for note in notes] == [
        "8 images at once",
        "4 images at once",
    ]
    assert "2 go through the network at a time" in notes[1]
    assert (state.step, state.facts["halvings"]) == (6, 2)
    planned = Lab(tmp_path / "planned").train(build_step(2, dropout=0.5), state_of(0))
    assert all(np.array_equal(a, b) for a, b in zip(starved, planned, strict=True))


def test_what_is_only_asked_goes_in_as_small_parts_as_what_is_learned():
    step = build_step(8, most=3)
    inputs = draw_batch(8)[0]
    with pytest.raises(DeviceMemoryTooSmall):
        step.predict(inputs)

    step.halve_to(2)

    whole = build_step(8).predict(inputs)
    np.testing.assert_allclose(step.predict(inputs), whole, rtol=1e-6)


def test_a_validation_that_does_not_fit_halves_the_passes_and_goes_on(tmp_path, capfd):
    step, state, lab = build_step(4, most=5), TrainingState(), Lab(tmp_path)
    inputs = draw_batch(8)[0]

    def validate():
        step.predict(inputs)
        return {"val_loss": 1.0 / state.epoch, "val_accuracy": 0.5}

    lab.train(step, state, validate=validate)

    assert (state.step, state.facts["halvings"]) == (6, 1)
    assert "did not fit the device's memory" in read_notes(capfd)[0]
    assert lab.saved()[-1]["facts"] == {"halvings": 1}, "saved with the first that fits"


def test_an_attempt_on_a_machine_with_less_memory_halves_what_the_first_did_not(
    tmp_path, capfd
):
    lab = Lab(tmp_path, checkpoint_every={"steps": 1})
    lab.train(build_step(8), TrainingState())
    stored = checkpoint.list_checkpoints(tmp_path)[1]
    request = load_request(write_spec(tmp_path / "SPEC.json", "-", {}), tmp_path)
    later = checkpoint._load(Candidate(stored, None), replace(request, spec_sha=""))
    step = build_step(8)

    lab.train(step, later.state, later.arrays, least_halvings=2)

    assert (step.halvings, later.state.facts["halvings"]) == (2, 2)
    assert "in 4 parts of a batch" in read_notes(capfd)[0]


def state_of(halvings):
    return TrainingState(facts={"halvings": halvings} if halvings else {})


def test_the_halved_passes_are_saved_with_the_first_step_that_fits(tmp_path):
    lab = Lab(tmp_path)

    lab.train(build_step(8, most=3), TrainingState())

    first = lab.saved()[-1]
    assert (first["step"], first["facts"]) == (1, {"halvings": 2})


def test_a_later_attempt_repeats_the_halved_passes_at_once(tmp_path, capfd):
    step = build_step(8, most=3)

    Lab(tmp_path).train(step, state_of(2))

    assert step.images_per_pass == 2
    assert not read_notes(capfd)


@pytest.mark.parametrize(
    ("facts", "kills", "halvings"),
    [
        ({}, 0, None),
        ({}, 2, 2),
        ({"halvings": 1, "memory_kills": 1}, 1, 1),
        ({"halvings": 2, "memory_kills": 1}, 2, 3),
    ],
)
def test_each_kill_for_lack_of_memory_halves_the_passes_once(
    tmp_path, facts, kills, halvings
):
    state = TrainingState(facts=facts)
    path = write_spec(tmp_path / "SPEC.json", "-", {}, memory_kills=kills)
    material = Material(parse_training_spec({}), build_pack(tmp_path), [], 1)

    materials.note_facts(load_request(path, tmp_path), material, state)

    assert state.facts.get("halvings") == halvings
    assert state.facts["fingerprint"] == material.pack.fingerprint


def test_an_attempt_that_computes_otherwise_than_the_one_before_says_so(capfd):
    state = TrainingState()
    versions.note_machine(state)
    versions.note_machine(state)
    assert not read_notes(capfd)

    state.facts["computed_by"] |= {"opencv": "4.0"}
    versions.note_machine(state)

    (note,) = read_notes(capfd)
    assert f"opencv 4.0 -> {cv2.__version__}" in note
    assert state.facts["computed_by"] == versions.describe_machine()


def test_one_image_that_does_not_fit_ends_the_training_with_a_sentence(tmp_path):
    with pytest.raises(UserError, match="even with one image at a time"):
        Lab(tmp_path).train(build_step(4, most=0), TrainingState())


@pytest.mark.parametrize("kills", [0, 1])
def test_passes_too_large_for_the_machine_are_halved_before_the_first(
    tmp_path, capfd, kills
):
    facts = {"halvings": 1, "memory_kills": kills}
    state, step, lab = TrainingState(facts=facts), build_step(8), Lab(tmp_path)

    lab.train(step, state, least_halvings=2)

    halvings = 2 + kills  # what was killed all the same counts on top of the plan
    assert (step.halvings, state.facts["halvings"]) == (halvings, halvings)
    assert f"in {2**halvings} parts of a batch" in read_notes(capfd)[0]
    assert lab.saved()[-1]["step"] == 1


def test_a_faster_compiled_step_is_used_and_a_later_attempt_compiles_at_once(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(jit_choice, "_WORTH_ASKING_SECONDS", 0.0)
    monkeypatch.setattr(jit_choice, "_GAIN", 0.0)  # however long it takes
    state, lab = TrainingState(), Lab(tmp_path, checkpoint_every={"steps": 1})

    lab.train(build_step(8, dropout=0.5), state, may_compile=True)

    assert state.facts == {"compiled_by_xla": True}
    assert any("XLA" in note for note in read_notes(capfd))
    stored = checkpoint.list_checkpoints(tmp_path)[1]
    request = load_request(write_spec(tmp_path / "SPEC.json", "-", {}), tmp_path)
    later = checkpoint._load(Candidate(stored, None), replace(request, spec_sha=""))
    step = build_step(8, dropout=0.5)
    monkeypatch.setattr(jit_choice, "pays", None)  # nothing is measured again
    lab.train(step, later.state, later.arrays, may_compile=True)
    assert step._is_compiled
