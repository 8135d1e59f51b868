"""Whether two models have the same weights, to the bit."""

import hashlib

import keras
import numpy as np


def digest_weights(model):
    """Returns the SHA-256 over every variable's path, shape, type and value."""
    digest = hashlib.sha256()
    for variable in model.variables:
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{variable.path} {values.shape} {values.dtype}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
