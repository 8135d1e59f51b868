"""Early layers learn more slowly when asked to; the average is judged, not trained."""

import keras
import numpy as np
import pytest

from shared.training_spec import Optimizer, parse_training_spec
from worker.training import build_model, optimizers, variables
from worker.training.averaging import averaged

SPEC = {"learning_rate_schedule": "constant"}


def compiled(optimizer="sgd", **more):
    """A network of two layers under a head, as the engine names them."""
    spec = parse_training_spec(SPEC | {"optimizer": optimizer} | more)
    keras.utils.set_random_seed(0)
    image = keras.Input((8,), name="image")
    x = keras.layers.Dense(16, activation="tanh", name="first")(image)
    x = keras.layers.Dense(16, activation="tanh", name="second")(x)
    head = build_model.build_head(spec, 16, 3)
    model = build_model.join(keras.Model(image, x), head)
    rule = optimizers.build_optimizer(spec, model, peak=1e-2, steps=10)
    model.compile(rule, "categorical_crossentropy", jit_compile=False)
    return model


def step(model, count=1):
    random = np.random.default_rng(0)
    for _ in range(count):
        rows = random.normal(size=(6, 8)).astype(np.float32)
        model.train_on_batch(rows, np.eye(3, dtype=np.float32)[np.arange(6) % 3])


def moved(model):
    """How far each trained variable went in one step."""
    before = [array.value for array in variables.read(model.trainable_variables)]
    step(model)
    after = [array.value for array in variables.read(model.trainable_variables)]
    return [np.abs(b - a).max() for a, b in zip(before, after, strict=True)]


def test_the_shares_rise_by_equal_factors_up_to_the_heads_whole_rate():
    model = compiled(first_layer_rate=0.01)

    shares = optimizers.list_shares(model, 0.01)

    assert len(shares) == len(model.trainable_variables)
    assert shares[:2] == pytest.approx([0.01, 0.01])
    assert shares[-2:] == [1.0, 1.0], "the head's kernel and bias"
    assert shares[2:4] == pytest.approx([0.1, 0.1]), "half way"


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_each_variable_takes_its_share_of_every_rules_step(optimizer):
    # Without dropout both see the same gradients.
    plain = {"head": {"units": [], "dropout": 0}}
    whole = moved(compiled(optimizer.value, **plain))
    shared = moved(compiled(optimizer.value, **plain, first_layer_rate=0.01))

    shares = optimizers.list_shares(compiled(), 0.01)
    ratios = np.array(shared) / np.array(whole)
    # AdamW's decay, which is a small part of a step, keeps the whole rate.
    assert ratios == pytest.approx(shares, rel=0.25)


def test_the_average_stands_in_and_leaves_the_training_as_it_was():
    model = compiled(weight_averaging=0.5)
    weights = []
    for _ in range(3):
        step(model)
        weights.append(variables.read(model.trainable_variables)[0].value)

    with averaged(model):
        judged = variables.read(model.trainable_variables)[0].value

    # Keras begins the average with the first step's weights.
    expected = (weights[0] + weights[1]) / 4 + weights[2] / 2
    assert judged == pytest.approx(expected, abs=1e-6)
    after = variables.read(model.trainable_variables)[0].value
    assert after.tobytes() == weights[2].tobytes()


def test_without_averaging_the_last_weights_are_judged():
    model = compiled()
    step(model)

    with averaged(model):
        judged = variables.read(model.trainable_variables)

    assert not model.optimizer.use_ema
    for array, variable in zip(judged, model.trainable_variables, strict=True):
        assert array.value.tobytes() == keras.ops.convert_to_numpy(variable).tobytes()
