"""Lets a head see what the base's blocks gave, not only what its last layer made of it.

The last map of an ImageNet network tells objects apart. What texture a picture has, or
whether it shows a small mark anywhere, earlier maps say better: their mean over the
picture and their deviation are features as good as the last one's, and the pass
computes them anyway.

Source of the idea: Evci et al., "Head2Toe", arXiv:2201.03529; of mean and deviation,
the style statistics of Huang and Belongie, arXiv:1703.06868.
"""

from typing import Any

import keras
from keras import layers, ops

# A symbolic tensor: Keras annotates neither its layers' arguments nor their results.
Tensor = Any

# What their layers' names begin with.
BLOCK_FEATURES = "block_features"

_FEWEST_BRANCHES = 2
# Fewer merges than this and a network is a plain chain: VGG, the first MobileNet.
_FEWEST_MERGES = 3
# Maps at half the image's side and above hold little but edges.
_LARGEST_SHARE_OF_SIDE = 1 / 4
# What EfficientNet-Lite has. Features of deeper networks would fill disks: ResNet152
# has fifty blocks with up to 2,048 channels.
_MOST_MAPS = 10
_MOST_FEATURES = 8192
# Keeps the root's slope finite where a map is even.
_SMALLEST_VARIANCE = 1e-6
_MAP_AXES = 4  # batch, height, width, channels


def add_block_features(network: keras.Model) -> Tensor:
    """Returns the features of `network` behind the statistics of its blocks' maps.

    Args:
        network: From pixels to features.

    Shapes:
        result: (batch, m) float32; m is what it was where no map qualifies.
    """
    maps = choose_maps(network)
    if not maps:
        return network.output
    pooled: list[Any] = []
    for place, map_ in enumerate(maps):
        for kind, pool in (
            ("mean", layers.GlobalAveragePooling2D),
            ("deviation", GlobalDeviationPooling2D),
        ):
            # Sums over thousands of pixels: float32 whatever the network computes in.
            name = f"{BLOCK_FEATURES}_{place}_{kind}"
            pooled.append(pool(dtype="float32", name=name)(map_))
    join = layers.Concatenate(dtype="float32", name=BLOCK_FEATURES)
    return join([*pooled, network.output])


def choose_maps(network: keras.Model) -> list[Tensor]:
    """Returns the outputs of the blocks of `network`, input side first.

    A block ends where branches of one size meet; in a network without branches, before
    the resolution changes. Of many, some are chosen at equal distances.
    """
    outer = network.input_shape[1] * _LARGEST_SHARE_OF_SIDE
    every = [
        operation
        for operation in network.operations
        if len(operation.output.shape) == _MAP_AXES
        and not isinstance(operation, layers.ZeroPadding2D)
    ]
    # What is pooled last is among the features already; one pixel has no deviation.
    inner = [
        operation for operation in every[:-1] if 1 < operation.output.shape[1] <= outer
    ]
    ends = [operation.output for operation in inner if _joins_branches(operation)]
    if len(ends) < _FEWEST_MERGES:
        last_of_side = {
            operation.output.shape[1]: operation.output for operation in inner
        }
        last_of_side.pop(every[-1].output.shape[1], None)
        ends = list(last_of_side.values())
    return _thin_out(ends)


def _joins_branches(operation: Any) -> bool:
    """Whether maps of one size come together, as no gate of squeeze-excite's does."""
    inputs = operation.input
    if not isinstance(inputs, list) or len(inputs) < _FEWEST_BRANCHES:
        return False
    return len({tensor.shape[1:-1] for tensor in inputs}) == 1


def _thin_out(maps: list[Tensor]) -> list[Tensor]:
    """Returns as many maps at equal distances, the last one among them, as allowed."""
    for count in range(min(len(maps), _MOST_MAPS), 0, -1):
        places = [(place + 1) * len(maps) // count - 1 for place in range(count)]
        chosen = [maps[place] for place in places]
        if 2 * sum(map_.shape[-1] for map_ in chosen) <= _MOST_FEATURES:
            return chosen
    return []


@keras.saving.register_keras_serializable(package="trainyard")
class GlobalDeviationPooling2D(layers.Layer):
    """The standard deviation of every channel over the picture."""

    def call(self, maps: Tensor) -> Tensor:
        """Returns (batch, channels) from (batch, height, width, channels)."""
        mean = ops.mean(maps, axis=(1, 2), keepdims=True)
        variance: Tensor = ops.mean(ops.square(maps - mean), axis=(1, 2))
        return ops.sqrt(variance + _SMALLEST_VARIANCE)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the batch and the channels of `input_shape`."""
        return input_shape[0], input_shape[-1]
