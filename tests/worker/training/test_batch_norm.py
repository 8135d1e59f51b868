"""Trained BatchNormalization learns the dataset's statistics, exactly as Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from shared.presets import build_training_spec
from shared.training_spec import parse_training_spec
from tests.worker.training.pictures import build_pack
from worker.training import batch_norm, build_model, determinism, phase_setup, variables
from worker.training.best_weights import BestWeights
from worker.training.replicas import Replicas
from worker.training.train_step import TrainStep
from worker.training.training_state import Best, TrainingState

SPEC = {
    "base_model": "MobileNet-0.25",
    "weights": None,
    "image_size_px": 32,
    "batch_size": 16,
    "fine_tune_epochs": 1,
    "fine_tune_learning_rate": 1e-2,
    "unfreeze_from": 0.5,
}
SIDE, CLASSES = 8, 3


def build_base(*, scale=True, center=True):
    determinism.start_model(0)
    image = keras.Input((SIDE, SIDE, 2), name="image")
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(scale=scale, center=center, name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, x)


def build_step(base, images_per_pass):
    x = keras.layers.Dense(CLASSES, activation="softmax", name="probabilities")(
        base.output
    )
    model = keras.Model(base.input, x)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy())
    return TrainStep(model, images_per_pass=images_per_pass, replicas=Replicas())


@pytest.mark.parametrize("name", ["EfficientNetB0", "EfficientNetV2B0"])
def test_a_base_that_may_learn_says_what_it_said_before(name):
    spec = SPEC | {"base_model": name, "image_size_px": 32}
    base = build_model.build_base(parse_training_spec(spec))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3))
    pixels = pixels.astype(np.float32)
    # Not as graphs, which take longer to make than to compute once.
    expected = base(pixels, training=False)

    learning = batch_norm.let_learn(base, Replicas())

    got = learning(pixels, training=False)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


def draw_batch(images=16):
    random = np.random.default_rng(images)
    inputs = random.normal(3, 2, (images, SIDE, SIDE, 2)).astype(np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[random.integers(CLASSES, size=images)]
    return inputs, labels


def read_weights(model):
    return {item.path: item.value for item in variables.read(model.weights)}


@pytest.mark.parametrize(
    "options", [{}, {"scale": False}, {"center": False}], ids=["whole", "b", "g"]
)
def test_the_one_kernel_does_what_keras_itself_does(options):
    fused = batch_norm.let_learn(build_base(**options), Replicas())
    plain = build_base(**options)
    plain.get_layer("norm").momentum = fused.get_layer("norm").momentum
    ours, theirs = build_step(fused, 16), build_step(plain, 16)
    theirs.model.set_weights(ours.model.get_weights())
    batch = draw_batch()

    for _ in range(5):
        logs = ours.train(batch)
        loss = theirs.model.train_on_batch(*batch)

    assert isinstance(fused.get_layer("norm"), batch_norm.FusedBatchNormalization)
    assert logs["loss"] == pytest.approx(float(loss), rel=1e-4)
    mine, other = read_weights(ours.model), read_weights(theirs.model)
    assert list(mine) == list(other)
    assert abs(mine["norm/moving_mean"]).max() > 0.1, "it has learned statistics"
    for path, value in mine.items():
        # The population's variance is n / (n - 1) times the batch's.
        np.testing.assert_allclose(value, other[path], rtol=2e-3, atol=1e-4)


def test_gradients_alone_move_no_statistics():
    """A pass that did not fit the memory is tried again from where it began."""
    step = build_step(batch_norm.let_learn(build_base(), Replicas()), 16)
    before = read_weights(step.model)

    step._backend.gradients(step._split(draw_batch()), 16)

    after = read_weights(step.model)
    assert all(np.array_equal(value, after[path]) for path, value in before.items())


def test_what_is_observed_moves_the_statistics_alone():
    step = build_step(batch_norm.let_learn(build_base(), Replicas()), 16)
    before = read_weights(step.model)

    for _ in range(60):
        step.observe(draw_batch()[0])

    after = read_weights(step.model)
    changed = {p for p, value in before.items() if not np.array_equal(value, after[p])}
    assert changed == {"norm/moving_mean", "norm/moving_variance"}
    seen = keras.Model(
        step.model.input, step.model.get_layer("conv").output
    ).predict_on_batch(draw_batch()[0])
    np.testing.assert_allclose(
        after["norm/moving_mean"], seen.mean(axis=(0, 1, 2)), rtol=0.01, atol=0.01
    )


def test_the_phase_starts_at_the_datasets_statistics_and_can_start_again(tmp_path):
    """A trainer that dies before its first checkpoint starts the phase once more."""
    changes = {"batch_norm": "trained", "head_start": "logistic", "unfreeze_from": 0}
    spec = build_training_spec(overrides=SPEC | changes)
    material = phase_setup.Material(spec, build_pack(tmp_path), [], 1)
    state = TrainingState()

    def build():
        return phase_setup.build_fine_tune(
            material, state, BestWeights(spec, state, [])
        )

    phase = build()
    before = read_weights(phase.model)
    phase.start()
    once = read_weights(phase.model)
    phase.start()
    again, anew = read_weights(phase.model), build()
    anew.start()

    moved = [path for path in once if not np.array_equal(before[path], once[path])]
    others = {path for path in moved if "moving_" not in path}
    assert "probabilities/kernel" in others
    assert others <= {"probabilities/kernel", "probabilities/bias"}
    assert len(moved) > len(others)
    for path, value in read_weights(anew.model).items():
        assert np.array_equal(value, once[path]), path
        assert np.array_equal(again[path], once[path]), path


def test_rows_that_fill_up_a_pass_are_pictures_of_the_batch():
    """Black rows would darken the statistics of every odd batch."""
    step = build_step(batch_norm.let_learn(build_base(), Replicas()), 16)
    step.halve_to(1)
    (inputs, _, weights, counted) = step._split(draw_batch(15))

    assert inputs.shape[:2] == (2, 8)
    assert np.array_equal(inputs[1, -1], inputs[0, 0])
    assert weights[1, -1] == counted[1, -1] == 0


def test_a_frozen_layer_keeps_its_statistics_and_a_trained_one_publishes_its_own(
    tmp_path,
):
    spec = build_training_spec(overrides=SPEC | {"batch_norm": "trained"})
    material = phase_setup.Material(spec, build_pack(tmp_path), [], 1)
    state = TrainingState()
    phase = phase_setup.build_fine_tune(material, state, BestWeights(spec, state, []))
    base = build_model.build_base(spec)
    before = read_weights(base)
    phase.train.start_epoch(0)

    phase.step.train(phase.train[0])

    trained = variables.read(phase.model.weights)
    state.best = Best("fine_tune", 0, 1, "val_loss", 1.0)
    best = BestWeights(spec, state, trained)
    published = read_weights(phase_setup.build_best(material, state, best))
    moved = {
        path
        for path, value in before.items()
        if "moving_" in path and not np.array_equal(value, published[path])
    }
    norms = [path for path in before if "moving_mean" in path]
    assert norms[0] not in moved, "before the first trained layer"
    assert norms[-1] in moved
    assert 0 < len(moved) < 2 * len(norms)


def test_a_published_model_has_keras_layers_alone(tmp_path):
    """What is exported must load without our code."""
    spec = build_training_spec(overrides=SPEC | {"batch_norm": "trained"})
    material = phase_setup.Material(spec, build_pack(tmp_path), [], 1)
    state = TrainingState()
    phase = phase_setup.build_fine_tune(material, state, BestWeights(spec, state, []))
    state.best = Best("fine_tune", 0, 1, "val_loss", 1.0)
    best = BestWeights(spec, state, variables.read(phase.model.weights))

    model = phase_setup.build_best(material, state, best)

    assert {type(layer) for layer in batch_norm.list_norms(model)} == {
        keras.layers.BatchNormalization
    }


def test_half_precision_is_left_to_keras():
    layer = batch_norm.FusedBatchNormalization(dtype="mixed_float16")

    got = layer(tf.ones((2, 4, 4, 3), tf.float16), training=True)

    assert got.dtype == tf.float16
