import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from shared.base_models import get_base_model
from shared.errors import UserError
from shared.presets import build_training_spec
from worker.training import build_model
from worker.training.efficientnet_lite import assign_torch_weights
from worker.training.pretrained_weights import find_imagenet_weights
from worker.training.torch_file import load_torch_tensors

TRASHNET = Path(__file__).parents[4] / "shared" / "data" / "trashnet.zip"
MEMBERS = ["EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2"]
# ImageNet's beer, pop, water, wine and pill bottle.
BOTTLES = {440, 737, 898, 907, 720}


def load_tensors(name):
    return load_torch_tensors(find_imagenet_weights(get_base_model(name), []))


def build(name, **fields):
    return build_model.build_base(
        build_training_spec(overrides={"base_model": name, **fields})
    )


@pytest.mark.parametrize(
    ("name", "size"), list(zip(MEMBERS, [224, 240, 260], strict=True))
)
def test_every_tensor_of_the_file_finds_its_layer(name, size):
    base, tensors = build(name), load_tensors(name)

    held = sum(
        tensor.size
        for key, tensor in tensors.items()
        if not key.endswith("num_batches_tracked") and not key.startswith("_fc.")
    )
    assert base.count_params() == held
    assert base.input_shape == (None, size, size, 3)
    assert base.output_shape == (None, 1280)


def test_layers_are_as_the_architecture_says():
    base = build("EfficientNetLite0")
    norms = [x for x in base.layers if isinstance(x, keras.layers.BatchNormalization)]
    convolutions = [
        x
        for x in base.layers
        if isinstance(x, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
    ]

    assert {norm.epsilon for norm in norms} == {1e-3}
    assert {convolution.padding for convolution in convolutions} == {"same"}
    assert base.get_layer("stem_conv").strides == (2, 2)
    assert base.get_layer("top_conv").kernel.shape == (1, 1, 320, 1280)
    assert base.get_layer("block15_project_conv").kernel.shape == (1, 1, 1152, 320)
    assert base.get_layer("block3_depthwise_conv").kernel.shape == (5, 5, 144, 1)


def test_a_convolution_computes_what_torch_would():
    # Torch correlates (out, in, height, width); stride 2 with TensorFlow's padding
    # adds one row and column at the far end only.
    base = build("EfficientNetLite0", image_size_px=32)
    tensors = load_tensors("EfficientNetLite0")
    stem = keras.Model(base.input, base.get_layer("stem_conv").output)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3))

    got = stem.predict_on_batch(pixels.astype(np.float32))[0]

    padded = np.pad((pixels[0] - 127) / 128, ((0, 1), (0, 1), (0, 0)))
    kernel = tensors["_conv_stem.weight"].astype(np.float64)
    for row, column in [(0, 0), (7, 3), (15, 15)]:
        patch = padded[2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        expected = np.einsum("hwi,oihw->o", patch, kernel)
        assert np.allclose(got[row, column], expected, atol=1e-4)


@pytest.mark.skipif(
    not TRASHNET.exists(), reason=f"needs real photographs: {TRASHNET} is not there"
)
@pytest.mark.parametrize("name", MEMBERS)
def test_photographs_of_glass_are_mostly_named_bottles(name):
    import tensorflow as tf  # noqa: PLC0415

    from worker.decode import decode_image  # noqa: PLC0415

    base, tensors = build(name), load_tensors(name)
    with zipfile.ZipFile(TRASHNET) as archive:
        photos = [n for n in archive.namelist() if "/glass/" in n and ".jpg" in n][:24]
        pixels = [
            decode_image(tf.constant(archive.read(n)), base.input_shape[1], "crop")
            for n in photos
        ]

    features = base.predict_on_batch(np.stack(pixels).astype(np.float32))
    scores = features @ tensors["_fc.weight"].T + tensors["_fc.bias"]

    best = np.argsort(-scores, axis=1)[:, :5]
    hits = np.mean([bool(BOTTLES & set(row.tolist())) for row in best])
    assert hits >= 0.75  # of 1,000 names, chance would hit 2.5 %


def test_weights_of_another_member_are_refused():
    base = build("EfficientNetLite2", weights=None)

    with pytest.raises(UserError, match="belongs to another network"):
        assign_torch_weights(base, load_tensors("EfficientNetLite0"))
