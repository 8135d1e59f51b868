"""How many images may go through the network at once where memory is the machine's.

A pass that is too large for an accelerator fails, changes nothing and is tried again in
halves (`train_step`). The machine's own memory gives no such answer: the kernel kills
the process, and an attempt is lost. So there the need is estimated beforehand.

The estimate was measured with EfficientNet-Lite0, MobileNet and ResNet50 at 224 px, 8
to 32 pictures a pass, TensorFlow on a CPU: a training step added 0.47 to 0.64 times
the bytes of all layers' outputs, since buffers are used again, to what the process
held with its model built, which was 0.75 to 1.0 GiB.
"""

from itertools import pairwise

import keras
import numpy as np

from worker.training import build_model

_SHARE_OF_OUTPUTS = 0.7
_FRAMEWORK_BYTES = 1 << 30
# Each weight, its gradient, the optimizer's two moments and the average of the weights.
_COPIES_OF_WEIGHTS = 5
_FLOAT_BYTES = 4
# The rest is for whoever else runs here: the worker, an ingest, the cache of files.
_SHARE_OF_LIMIT = 0.7


def count_halvings(
    base: keras.Model, *, first_trained: int, images_per_pass: int, limit_bytes: int
) -> int:
    """Returns how often a pass must be halved to fit the machine's memory.

    As often as it takes to bring it to one image, where not even that one seems to fit:
    the estimate may be wrong, and the kernel has the last word.

    Args:
        base: The base model.
        first_trained: Place of the first trained layer in `build_model.list_depth`;
            what lies before it need not be kept.
        images_per_pass: Images in a whole pass.
        limit_bytes: Memory that all processes here may use together.
    """
    layers = build_model.list_depth(base)
    weights = _COPIES_OF_WEIGHTS * _FLOAT_BYTES * base.count_params()
    room = _SHARE_OF_LIMIT * limit_bytes - _FRAMEWORK_BYTES - weights
    outputs = [_count_outputs(layer) for layer in layers]
    # What learns keeps all that it gives, what is frozen its widest pair for a moment.
    kept = _SHARE_OF_OUTPUTS * sum(outputs[first_trained:])
    widest = max(map(sum, pairwise(outputs)), default=0)
    fitting = room / max(1.0, _FLOAT_BYTES * max(kept, widest))
    halvings = 0
    while images_per_pass > max(1.0, fitting) * 2**halvings:
        halvings += 1
    return halvings


def _count_outputs(layer: keras.Layer) -> int:
    """Counts the numbers that a layer gives for one image."""
    if isinstance(layer, keras.Model):
        return sum(_count_outputs(inner) for inner in layer.layers)
    shapes = [tensor.shape[1:] for tensor in keras.tree.flatten(layer.output)]
    return sum(int(np.prod(shape)) for shape in shapes if None not in shape)
