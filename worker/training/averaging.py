"""Puts the running average of the weights in their place, for as long as it is judged.

Averaged weights stay near the middle of what the last steps wandered around, which is
where they do best on pictures that nobody trained on (Polyak and Juditsky, SIAM J.
Control Optim. 30 (1992); Izmailov et al., arXiv:1803.05407). Keras's optimizer keeps
the average among its variables, so every checkpoint holds it.
"""

import contextlib
from collections.abc import Iterator

import keras

from worker.training import variables


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Lets `model` be its average; afterwards it is to the bit what it was.

    A model that is trained without an average stays as it is.
    """
    if not model.optimizer.use_ema:
        yield
        return
    trained = variables.read(model.trainable_variables)
    average = model.optimizer._model_variables_moving_average  # noqa: SLF001 - Keras's own callback reads it too
    for variable, mean in zip(model.trainable_variables, average, strict=True):
        variable.assign(mean)
    try:
        yield
    finally:
        variables.write(model.trainable_variables, trained)
