"""Every field of the training spec takes effect: two values give two results."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest

from shared.base_models import resolve_image_size_px
from shared.training_spec import (
    LearningRateSchedule,
    TrainingSpec,
    parse_training_spec,
)
from tests.weight_digests import digest_weights
from tests.worker.training.engine_process import ROOT, write_spec
from tests.worker.training.pictures import write_pictures
from worker.training import (
    batch_norm,
    build_model,
    determinism,
    pack,
    phase_setup,
    variables,
)
from worker.training.background_writer import BackgroundWriter
from worker.training.best_weights import BestWeights
from worker.training.checkpoint import CheckpointWriter, list_checkpoints
from worker.training.frozen_views import FrozenViews
from worker.training.phases import Trainer
from worker.training.request import load_request
from worker.training.stop_requests import StopRequests
from worker.training.training_state import Best, Stopwatch, TrainingState

pytestmark = pytest.mark.timeout(300)

SMALL = {
    "base_model": "MobileNet-0.25",
    "weights": None,
    "image_size_px": 32,
    "batch_size": 4,
    "frozen_epochs": 3,
    "fine_tune_epochs": 2,
}
STILL = {
    "horizontal_flip": False,
    "vertical_flip": False,
    "rotation": 0,
    "zoom": 0,
    "shift": 0,
    "brightness": 0,
}
OWN_WEIGHTS = "own.weights.h5"
# (val_loss, val_accuracy) by epoch: the loss is best in the first, accuracy later.
CURVE = [(0.5, 0.6), (0.6, 0.8), (0.7, 0.7)]


class PunctualWriter(BackgroundWriter):
    """Done by the next step, so that which steps are saved depends on no clock."""

    def is_free(self):
        self.wait()
        return True


@dataclass
class Lab:
    """A dataset, and what the engine makes of it under one spec."""

    folder: Path
    workdir: Path

    def request(self, spec):
        path = write_spec(
            self.workdir / "SPEC.json",
            self.folder / "pictures",
            spec.model_dump(mode="json"),
            caches=str(self.folder / "caches"),
            weights_dirs=[str(self.folder)],
        )
        return load_request(path, self.workdir)

    def material(self, spec):
        # As `materials.prepare` does, which sets threads first: once a process.
        size = resolve_image_size_px(spec.base_model, spec.image_size_px)
        opened = pack.open_or_build_pack(
            pack.read_dataset(self.folder / "pictures"),
            image_size_px=size,
            fit=spec.fit,
            caches=self.folder / "caches",
        )
        return phase_setup.Material(spec, opened, [self.folder], 1)

    def views(self, spec):
        state, stops = TrainingState(), StopRequests()
        request, material = self.request(spec), self.material(spec)
        views = FrozenViews(request, material, state, stops, Stopwatch({}, "prepare"))
        views.open()
        return views.draw_from(spec.feature_views)

    def frozen(self, spec):
        rows = len(self.material(spec).pack.labels)
        noise = np.random.default_rng(0).random((rows, 16), np.float32)
        phase = phase_setup.build_frozen(self.material(spec), [noise])
        phase.train.start_epoch(0)
        return phase

    def fine_tune(self, spec):
        best = BestWeights(spec, TrainingState(), [])
        phase = phase_setup.build_fine_tune(self.material(spec), TrainingState(), best)
        phase.train.start_epoch(0)
        return phase

    def base(self, spec):
        return build_model.build_base(spec, [self.folder])

    def train(self, spec, phase):
        """Trains `phase` and returns the folder of its checkpoints."""
        return self.train_and_keep(spec, phase)[1]

    def train_and_keep(self, spec, phase):
        """Trains `phase`; returns its best weights and its checkpoints' folder."""
        state, own = TrainingState(), Path(tempfile.mkdtemp(dir=self.workdir))
        best = BestWeights(spec, state, [])
        trainer = Trainer(
            spec,
            state,
            best=best,
            checkpoints=PunctualWriter(CheckpointWriter(own, {}, prune=False)),
            stops=StopRequests(),
            stopwatch=Stopwatch({}, "frozen"),
        )
        trainer.train(phase, None)
        return best.weights, own

    def checkpoints(self, spec):
        own = self.train(spec, self.frozen(spec))
        return sorted(int(path.name) for path in list_checkpoints(own))

    def last_rate(self, spec):
        """The learning rate after a phase that improves in its first epoch only."""
        values = {"val_loss": 1.0, "val_accuracy": 0.5}
        phase = replace(self.frozen(spec), validate=lambda: values)
        self.train(spec, phase)
        return float(phase.model.optimizer.learning_rate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "pictures", each=12, side=40)
    other = parse_training_spec(SMALL | {"seed": 7})
    build_model.build_base(other).save_weights(folder / OWN_WEIGHTS)
    return folder


@pytest.fixture
def lab(folder, tmp_path):
    return Lab(folder, tmp_path)


def first_pictures(lab, spec):
    return lab.fine_tune(spec).train[0][0].tobytes()


def rate_after_plateaus(lab, spec, **more):
    schedule = {"learning_rate_schedule": LearningRateSchedule.PLATEAU}
    return lab.last_rate(spec.model_copy(update=schedule | more))


def shape_of_batch(phase):
    return len(phase.train[0][0]), phase.step.images_per_pass


def peak_of(phase):
    return phase.model.optimizer._learning_rate.warmup_target


def trained_layers(lab, spec):
    layers = lab.fine_tune(spec).model.layers
    return [layer.name for layer in layers if layer.trainable_weights]


def first_weights(lab, spec):
    return [
        array.value.tobytes()
        for array in variables.read(lab.frozen(spec).model.weights)
    ]


def judged_weights(lab, spec):
    """The weights that a phase of three epochs leaves as its best."""
    spec = spec.model_copy(update={"save_best_only": False})
    kept, _ = lab.train_and_keep(spec, lab.frozen(spec))
    return [array.value.tobytes() for array in kept]


def published_layers(lab, spec):
    material, state = lab.material(spec), TrainingState()
    features = lab.base(spec).output_shape[-1]
    head = build_model.build_head(spec, features, len(material.pack.classes))
    state.best = Best("frozen", 0, 1, "val_loss", 1.0)
    best = BestWeights(spec, state, variables.read(head.weights))
    model = phase_setup.build_best(material, state, best)
    return [layer.name for layer in model.layers]


def trained_norms(lab, spec):
    return len(batch_norm.list_statistics(lab.fine_tune(spec).model))


def follow_curve(_lab, spec):
    """The epoch whose weights would be published, and where the phase would end."""
    state = TrainingState()
    best = BestWeights(spec, state, [])
    for number, (loss, accuracy) in enumerate(CURVE):
        state.epoch = number + 1
        best.end_epoch({"val_loss": loss, "val_accuracy": accuracy}, list)
        if best.waited_long_enough:
            break
    return state.best.epoch, state.epoch


# What the engine does with each field, and two values between which it must differ.
EFFECTS = {
    "base_model": (
        lambda lab, spec: lab.base(spec).count_params(),
        "MobileNet-0.25",
        "MobileNetV2-0.35",
    ),
    "weights": (
        lambda lab, spec: digest_weights(lab.base(spec)),
        None,
        OWN_WEIGHTS,
    ),
    "image_size_px": (
        lambda lab, spec: (
            lab.base(spec).input_shape,
            lab.material(spec).pack.pixels.shape,
        ),
        32,
        48,
    ),
    "fit": (
        lambda lab, spec: lab.material(spec).pack.pixels[:].tobytes(),
        "stretch",
        "pad",
    ),
    "head": (
        lambda lab, spec: [layer.name for layer in lab.frozen(spec).model.layers],
        {"units": [], "dropout": 0},
        {"units": [5], "dropout": 0.3},
    ),
    "augmentation": (first_pictures, STILL, STILL | {"rotation": 90}),
    "feature_maps": (
        lambda lab, spec: lab.base(spec).output_shape[-1],
        "last",
        "blocks",
    ),
    "head_start": (first_weights, "random", "logistic"),
    "mixup": (first_pictures, 0, 0.4),
    "cutmix": (first_pictures, 0, 1.0),
    "batch_size": (lambda lab, spec: len(lab.frozen(spec).train[0][0]), 4, 5),
    "gradient_accumulation_steps": (
        lambda lab, spec: shape_of_batch(lab.fine_tune(spec)),
        1,
        3,
    ),
    "frozen_epochs": (lambda lab, spec: lab.frozen(spec).epochs, 3, 4),
    "frozen_learning_rate": (lambda lab, spec: peak_of(lab.frozen(spec)), 1e-3, 1e-2),
    "feature_views": (lambda lab, spec: len(lab.views(spec)), 1, 2),
    "fine_tune_epochs": (
        lambda lab, spec: (lab.frozen(spec).next_name, lab.fine_tune(spec).epochs),
        0,
        2,
    ),
    "fine_tune_learning_rate": (
        lambda lab, spec: peak_of(lab.fine_tune(spec)),
        1e-5,
        1e-4,
    ),
    "unfreeze_from": (trained_layers, 0.5, "conv_pw_13"),
    "first_layer_rate": (
        lambda lab, spec: getattr(
            lab.fine_tune(spec).model.optimizer, "_shares", "the same for all"
        ),
        1,
        0.1,
    ),
    "batch_norm": (trained_norms, "frozen", "trained"),
    "weight_averaging": (judged_weights, 0, 0.9),
    "test_time_augmentation": (published_layers, False, True),
    "optimizer": (
        lambda lab, spec: type(lab.frozen(spec).model.optimizer),
        "adam",
        "sgd",
    ),
    "learning_rate_schedule": (Lab.last_rate, "cosine", "constant"),
    "plateau_factor": (
        lambda lab, spec: rate_after_plateaus(lab, spec, plateau_patience=1),
        0.5,
        0.1,
    ),
    "plateau_patience": (rate_after_plateaus, 1, 2),
    "class_weights": (
        lambda lab, spec: len(lab.frozen(spec).train[0]),
        "none",
        "balanced",
    ),
    "label_smoothing": (
        lambda lab, spec: lab.frozen(spec).model.loss.label_smoothing,
        0.0,
        0.1,
    ),
    "checkpoint_every": (Lab.checkpoints, {"epochs": 2}, {"steps": 3}),
    "monitor": (follow_curve, "val_loss", "val_accuracy"),
    "save_best_only": (follow_curve, True, False),
    "early_stopping_patience": (follow_curve, 1, 2),
    "seed": (first_weights, 0, 1),
}


def test_the_effect_of_every_field_is_tried():
    tried_elsewhere = {"deterministic"}

    assert set(EFFECTS) | tried_elsewhere == set(TrainingSpec.model_fields)


@pytest.mark.parametrize("field", EFFECTS)
def test_two_values_of_a_field_give_two_results(lab, field):
    effect, one, other = EFFECTS[field]
    spec = parse_training_spec(SMALL | {field: one})
    changed = parse_training_spec(SMALL | {field: other})

    results = [effect(lab, item) for item in (spec, spec, changed)]

    assert results[0] == results[1], "nothing else may change it"
    assert results[0] != results[2]


@pytest.mark.parametrize("kind", STILL)
def test_every_kind_of_augmentation_changes_the_pictures(lab, kind):
    strength = True if kind.endswith("flip") else 0.5
    still = parse_training_spec(SMALL | {"augmentation": STILL})
    moved = parse_training_spec(SMALL | {"augmentation": STILL | {kind: strength}})

    assert first_pictures(lab, still) != first_pictures(lab, moved)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", keras.optimizers.Adam),
        ("adamw", keras.optimizers.AdamW),
        ("sgd", keras.optimizers.SGD),
        ("rmsprop", keras.optimizers.RMSprop),
    ],
)
def test_every_optimizer_trains(lab, name, kind):
    phase = lab.frozen(parse_training_spec(SMALL | {"optimizer": name}))
    before = variables.read(phase.model.trainable_variables)

    phase.model.train_on_batch(*phase.train[0])

    after = variables.read(phase.model.trainable_variables)
    assert type(phase.model.optimizer) is kind
    assert any((a.value != b.value).any() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("schedule", "ends_at"),
    [("cosine", 0), ("constant", 8e-3), ("plateau", 2e-3)],
)
def test_a_schedule_ends_where_it_says(lab, schedule, ends_at):
    # Three epochs, of which two do not improve: two cuts by half.
    spec = parse_training_spec(
        SMALL
        | {
            "frozen_learning_rate": 8e-3,
            "learning_rate_schedule": schedule,
            "plateau_patience": 1,
        }
    )

    assert lab.last_rate(spec) == pytest.approx(ends_at)


def test_steps_and_epochs_say_when_a_checkpoint_is_saved(lab):
    # 16 training pictures in batches of 4: four steps an epoch, three epochs.
    by_steps = parse_training_spec(SMALL | {"checkpoint_every": {"steps": 5}})

    assert lab.checkpoints(by_steps) == [5, 10, 12]


def test_a_patience_of_null_never_ends_a_phase(lab):
    spec = parse_training_spec(SMALL | {"early_stopping_patience": None})

    assert follow_curve(lab, spec)[1] == len(CURVE)


def test_augmentation_changes_cached_views_but_not_the_plain_one(lab):
    spec = parse_training_spec(SMALL | {"feature_views": 2, "augmentation": STILL})
    moved = parse_training_spec(SMALL | {"feature_views": 2})

    plain, still = lab.views(spec)
    same, turned = lab.views(moved)

    train = lab.material(spec).pack.splits["train"]
    assert np.array_equal(plain, same)
    assert not np.array_equal(still[train], turned[train])


def test_null_is_deterministic_on_a_cpu_and_false_is_not():
    """In a process of its own: what was switched on once stays on."""
    code = """
from worker.training import determinism
determinism.prepare_environment()
import tensorflow as tf
from tensorflow.python.framework import config
tf.config.set_visible_devices([], "GPU")
said = [determinism.fix_randomness(threads=1, deterministic=False)]
said.append(config.is_op_determinism_enabled())
said.append(determinism.fix_randomness(threads=1, deterministic=None))
said.append(config.is_op_determinism_enabled())
print(said)
"""

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "[False, False, True, True]"


def test_one_seed_gives_the_same_first_weights_in_a_process_that_built_others(lab):
    spec = parse_training_spec(SMALL)
    alone = first_weights(lab, spec)
    keras.Sequential([keras.layers.Dense(3)]).build((None, 2))
    determinism.start_model(99)

    assert first_weights(lab, spec) == alone
