"""A model's variables go into a checkpoint and come back, from another backend too."""

import keras
import numpy as np
import pytest

from shared.errors import InternalError
from worker.training import variables


@pytest.fixture
def model():
    drop = keras.layers.Dropout(0.5, seed=3)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), drop])


def test_random_states_of_another_width_are_taken(model):
    read = variables.read(model.variables)
    (state,) = [item for item in read if np.issubdtype(item.value.dtype, np.integer)]
    # JAX keeps them in 32 bits without a sign, TensorFlow in 64 with one.
    narrow = [
        item._replace(value=np.array([3, 11], np.uint32)) if item is state else item
        for item in read
    ]

    variables.write(model.variables, narrow)

    again = variables.read(model.variables)
    assert [item.value.dtype for item in again] == [item.value.dtype for item in read]
    assert again[read.index(state)].value.tolist() == [3, 11]


def test_another_type_is_refused_and_nothing_is_changed(model):
    before = variables.read(model.variables)
    odd = [before[0]._replace(value=before[0].value.astype(np.float64)), *before[1:]]

    with pytest.raises(InternalError, match="do not fit this model"):
        variables.write(model.variables, odd)
    after = variables.read(model.variables)
    assert all((a.value == b.value).all() for a, b in zip(after, before, strict=True))
