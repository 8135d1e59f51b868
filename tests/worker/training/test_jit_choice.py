"""XLA compiles a step where that was measured to be faster, and only there."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.worker.training.test_train_step import build_step, draw_batch, values_of
from worker.training import jit_choice


class Foreign(keras.layers.Layer):
    """Calls Python in the middle of the graph, which XLA cannot compile."""

    def call(self, inputs):
        same = tf.numpy_function(lambda x: x, [inputs], tf.float32)
        return inputs + 0 * tf.stop_gradient(tf.ensure_shape(same, inputs.shape))


@pytest.fixture
def unbound(monkeypatch):
    monkeypatch.setattr(jit_choice, "_WORTH_ASKING_SECONDS", 0.0)


@pytest.mark.parametrize("gain", [0.0, 1e9])
def test_measuring_learns_nothing_and_leaves_the_faster_step(
    unbound, monkeypatch, gain
):
    monkeypatch.setattr(jit_choice, "_GAIN", gain)
    step, plain = build_step(), build_step()
    before = values_of(step)

    faster = jit_choice.pays(step, draw_batch(), steps=10)

    assert faster == step._is_compiled == (gain == 0)
    after = values_of(step)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    logs, expected = step.train(draw_batch()), plain.train(draw_batch())
    assert logs["loss"] == pytest.approx(expected["loss"], rel=1e-4)


def test_a_short_phase_is_not_worth_the_question(monkeypatch):
    step = build_step()
    monkeypatch.setattr(step, "compile_by_xla", None)

    assert not jit_choice.pays(step, draw_batch(), steps=10)


def test_a_step_that_xla_cannot_compile_stays_as_it_is(unbound):
    step = build_step(extra=Foreign(name="foreign"))

    assert not jit_choice.pays(step, draw_batch(), steps=10)

    assert not step._is_compiled
    assert np.isfinite(step.train(draw_batch())["loss"])
