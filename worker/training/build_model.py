"""Builds the network: the base, the head, and the two joined.

Every layer has a name that depends on the training spec alone, so that a checkpoint
written by one process fits the network built by another.
"""

import difflib
from pathlib import Path
from typing import Any

import keras
from keras import layers

from shared.base_models import BaseModel, get_base_model, resolve_image_size_px
from shared.errors import UserError
from shared.training_spec import TrainingSpec
from worker.training.block_features import BLOCK_FEATURES, add_block_features
from worker.training.efficientnet_lite import efficientnet_lite
from worker.training.pretrained_weights import load_base_weights
from worker.training.replicas import Replicas

# A symbolic tensor: Keras annotates neither its layers' arguments nor their results.
Tensor = Any

IMAGE_LAYER = "image"
FEATURES_LAYER = "features"
PROBABILITIES_LAYER = "probabilities"
STANDARDIZE_LAYER = "head_standardize"

# Source: `keras.applications.imagenet_utils`, modes `caffe` and `torch`.
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def build_base(
    spec: TrainingSpec,
    weights_dirs: list[Path] | None = None,
    *,
    download_weights: bool = True,
    precision: str = "float32",
    replicas: Replicas | None = None,
) -> keras.Model:
    """Builds the base model of `spec` with its weights, every layer frozen.

    Forgets the names that Keras gave out before (`keras.utils.clear_session`) and sets
    every random state from the spec's seed: the same spec gives the same names and the
    same weights in every process. Models built earlier go on working.

    Args:
        spec: Names the base model, its weights and the image size.
        weights_dirs: Folders searched for weight files. Defaults to none.
        download_weights: Whether absent ImageNet weights may be fetched.
        precision: Keras dtype policy of every layer; the weights are float32 under
            each.
        replicas: Devices that get a copy of every variable. Defaults to one. Their
            scope is entered here, because forgetting the names ends it.

    Returns:
        A flat model from pixels to pooled features; the family's own preprocessing is
        inside it.

    Raises:
        UserError: When the base model is unknown, its weights cannot be had, or the
            image size is too small for it.

    Shapes:
        input: (batch, size, size, 3) float32 in [0, 255].
        output: (batch, feature_size) float32.
    """
    base_model = get_base_model(spec.base_model)
    size = resolve_image_size_px(spec.base_model, spec.image_size_px)
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(spec.seed)
    # After the session is cleared, which forgets the policy too.
    keras.config.set_dtype_policy(precision)
    with (replicas or Replicas()).scope():
        model = _build_network(base_model, size)
    if spec.weights is not None:
        load_base_weights(
            model,
            base_model,
            spec.weights,
            weights_dirs or [],
            download=download_weights,
        )
    _repair_normalization(model, base_model)
    if spec.feature_maps == "blocks":
        # Last: a weights file of Keras 2 is read by the layers' order, and more of them
        # change it.
        features = add_block_features(model)
        model = keras.Model(model.input, features, name="base")
    model.trainable = False
    return model


def build_head(spec: TrainingSpec, feature_size: int, classes: int) -> keras.Model:
    """Builds the user's dense layers, ending in a softmax over `classes`.

    Args:
        spec: Names the hidden widths and the dropout.
        feature_size: Length of the base's feature vector.
        classes: Number of classes, at least 2.

    Shapes:
        input: (batch, feature_size) float32.
        output: (batch, classes) float32 probabilities.
    """
    features = keras.Input((feature_size,), dtype="float32", name="head_features")
    x = features
    if spec.head_start == "logistic":
        x = _standardize(x)
    initializer: Any
    for place, units in enumerate(spec.head.units):
        x = _drop(x, spec, place)
        initializer = keras.initializers.HeNormal(seed=spec.seed + place)
        x = layers.Dense(
            units,
            activation="relu",
            kernel_initializer=initializer,
            name=f"head_dense_{place}",
        )(x)
    last = len(spec.head.units)
    x = _drop(x, spec, last)
    initializer = keras.initializers.GlorotUniform(seed=spec.seed + last)
    probabilities = layers.Dense(
        classes,
        activation="softmax",
        kernel_initializer=initializer,
        name=PROBABILITIES_LAYER,
    )(x)
    return keras.Model(features, probabilities, name="head")


def join(base: keras.Model, head: keras.Model) -> keras.Model:
    """Returns one flat model from pixels to probabilities, sharing all variables."""
    x = base.output
    for layer in head.layers[1:]:
        x = layer(x)
    return keras.Model(base.input, x, name="classifier")


def set_trainable_from(
    base: keras.Model, unfreeze_from: str | float, *, norms: bool = False
) -> int:
    """Makes the base trainable from one layer on, and frozen before it.

    Args:
        base: The base, alone or joined with its head; layers of the head stay
            trainable.
        unfreeze_from: Name of the first trained layer, or the share of the base's
            depth that stays frozen, from 0 (train all) to 1 (train none).
        norms: Whether BatchNormalization is trained too. Frozen, in Keras, it also
            normalises with its stored statistics.

    Returns:
        Number of layers that will be trained.

    Raises:
        UserError: When no layer has that name; lists close ones.
    """
    ours = list_depth(base)
    first = find_first_trained(base, unfreeze_from)
    base.trainable = True
    for layer in base.layers:
        if layer.name == STANDARDIZE_LAYER:
            layer.trainable = False
    for place, layer in enumerate(ours):
        layer.trainable = place >= first
        for inner in layer._flatten_layers():  # noqa: SLF001 - the only way into a nested block
            if isinstance(inner, layers.BatchNormalization) and not norms:
                inner.trainable = False
    return sum(bool(layer.trainable_weights) for layer in ours)


def list_depth(base: keras.Model) -> list[keras.Layer]:
    """Lists the layers of the base itself, input side first.

    Args:
        base: The base, alone or joined with its head.
    """
    return [
        layer
        for layer in base.layers
        if not is_of_head(layer) and not layer.name.startswith(BLOCK_FEATURES)
    ]


def find_first_trained(base: keras.Model, unfreeze_from: str | float) -> int:
    """Returns the place of the first layer that is trained in `list_depth(base)`.

    Args:
        base: The base, alone or joined with its head.
        unfreeze_from: As in `set_trainable_from`.

    Raises:
        UserError: When no layer has that name; lists close ones.
    """
    ours = list_depth(base)
    if not isinstance(unfreeze_from, str):
        return round(unfreeze_from * len(ours))
    names = [layer.name for layer in ours]
    if unfreeze_from in names:
        return names.index(unfreeze_from)
    close = difflib.get_close_matches(unfreeze_from, names, n=5, cutoff=0.3)
    raise UserError(
        f"`unfreeze_from` must be a layer of the base model or a share from 0 to 1. "
        f"Close names: {', '.join(close) or ', '.join(names[-5:])}. "
        f"Received: unfreeze_from={unfreeze_from!r}.",
        field="unfreeze_from",
    )


@keras.saving.register_keras_serializable(package="trainyard")
class ReverseChannels(layers.Layer):
    """Turns RGB into BGR, the order that the Caffe-trained networks were fed."""

    def call(self, images: Tensor) -> Tensor:
        """Returns `images` with the last axis reversed."""
        return images[..., ::-1]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns `input_shape`: only the order changes."""
        return input_shape


def _build_network(base_model: BaseModel, size: int) -> keras.Model:
    image = keras.Input((size, size, 3), dtype="float32", name=IMAGE_LAYER)
    features = _apply_network(base_model, _preprocess(base_model, image))
    if len(features.shape) > 2:  # noqa: PLR2004 - a map is pooled, a vector is not
        features = layers.GlobalAveragePooling2D(name=FEATURES_LAYER)(features)
    return keras.Model(image, features, name="base")


def _preprocess(base_model: BaseModel, image: Tensor) -> Tensor:
    name = "preprocess"
    offset: Any
    match base_model.family.preprocessing:
        case "inside":
            return image
        case "symmetric":
            return layers.Rescaling(1 / 127.5, offset=-1.0, name=name)(image)
        case "lite":
            return layers.Rescaling(1 / 128, offset=-127 / 128, name=name)(image)
        case "torch":
            scale = [1 / (255 * deviation) for deviation in _IMAGENET_DEVIATION]
            pairs = zip(_IMAGENET_MEAN, _IMAGENET_DEVIATION, strict=True)
            offset = [-mean / deviation for mean, deviation in pairs]
            return layers.Rescaling(scale, offset=offset, name=name)(image)
        case "caffe":
            bgr = ReverseChannels(name="preprocess_bgr")(image)
            offset = [-mean for mean in _CAFFE_MEAN_BGR]
            return layers.Rescaling([1.0] * 3, offset=offset, name=name)(bgr)


def _apply_network(base_model: BaseModel, image: Tensor) -> Tensor:
    if base_model.family.preprocessing == "lite":
        return efficientnet_lite(base_model.constructor, image)
    options: dict[str, object] = {}
    if base_model.alpha is not None:
        options["alpha"] = base_model.alpha
    if base_model.minimalistic:
        options["minimalistic"] = True
    constructor = getattr(keras.applications, base_model.constructor)
    # Random weights here: Keras's own loading knows one folder and one image size.
    network = constructor(
        weights=None, include_top=False, pooling="avg", input_tensor=image, **options
    )
    return network.output


def _repair_normalization(model: keras.Model, base_model: BaseModel) -> None:
    """Sets EfficientNet's input statistics, whatever weights were loaded.

    The published files hold deviations where Keras expects variances; with
    `weights="imagenet"` Keras adds a layer that makes up for it, and with a path it
    does not. Setting both to what they should be is right in every case.
    Source: https://github.com/tensorflow/tensorflow/issues/49930
    """
    if base_model.family.name != "EfficientNet":
        return
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            layer.adapt_mean.assign(_IMAGENET_MEAN)
            variance = [deviation**2 for deviation in _IMAGENET_DEVIATION]
            layer.adapt_variance.assign(variance)
            layer.finalize_state()


def _standardize(x: Tensor) -> Tensor:
    """Subtracts a mean and divides by a deviation, which training never changes.

    The regression learns from standardised features. Folded into its weights, dropout
    would set features of any mean to 0, and one learning rate would have to fit weights
    that differ by orders of magnitude.
    """
    layer = layers.BatchNormalization(
        epsilon=0, center=False, scale=False, trainable=False, name=STANDARDIZE_LAYER
    )
    return layer(x)


def _drop(x: Tensor, spec: TrainingSpec, place: int) -> Tensor:
    if spec.head.dropout == 0:
        return x
    name = f"head_dropout_{place}"
    return layers.Dropout(spec.head.dropout, seed=spec.seed + place, name=name)(x)


def is_of_head(layer: keras.Layer) -> bool:
    """Whether `layer` is one of the user's own on top of the base."""
    return layer.name.startswith("head_") or layer.name == PROBABILITIES_LAYER
