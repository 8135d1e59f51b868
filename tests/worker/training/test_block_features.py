"""A head may see what every block of the base gave."""

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from shared.base_models import get_base_model
from shared.presets import build_training_spec
from shared.training_spec import parse_training_spec
from tests.worker.training.test_build_model import MEMBERS
from worker.training import block_features, build_model


def build(name="EfficientNetLite0", feature_maps="blocks", **fields):
    spec = build_training_spec(
        overrides={
            "base_model": name,
            "weights": None,
            "image_size_px": get_base_model(name).family.minimum_size_px,
            "feature_maps": feature_maps,
            **fields,
        }
    )
    return build_model.build_base(spec)


def draw_pictures(base, count=2):
    side = base.input_shape[1]
    random = np.random.default_rng(0)
    return random.integers(0, 255, (count, side, side, 3)).astype(np.float32)


def test_the_features_are_mean_and_deviation_of_every_block_then_the_plain_ones():
    base, plain = build(image_size_px=64), build(feature_maps="last", image_size_px=64)
    plain.set_weights(base.get_weights())
    pictures = draw_pictures(base)
    maps = keras.Model(
        base.input, [layer.output for layer in base.layers if "_add" in layer.name]
    ).predict_on_batch(pictures)

    got = base.predict_on_batch(pictures)

    expected = []
    for map_ in maps:
        pixels = np.asarray(map_, np.float64).reshape(2, -1, map_.shape[-1])
        expected += [pixels.mean(axis=1), pixels.std(axis=1)]
    expected.append(plain.predict_on_batch(pictures))
    assert len(maps) == 9  # EfficientNet-Lite0 has nine blocks with a shortcut
    assert np.allclose(got, np.concatenate(expected, axis=1), atol=2e-3)


@pytest.mark.parametrize("name", MEMBERS)
def test_every_family_has_blocks_to_look_at(name):
    base, plain = build(name), get_base_model(name)  # as test_build_model finds it
    wide, narrow = base.output_shape[-1], plain.feature_size

    # Not as a graph, which takes longer to make than to compute once.
    features = keras.ops.convert_to_numpy(base(draw_pictures(base), training=False))

    assert narrow < wide <= narrow + block_features._MOST_FEATURES
    assert np.isfinite(features).all()
    assert base.count_params() == plain.parameters
    assert np.ptp(features, axis=0).any()


def test_a_file_of_keras_2_is_read_in_the_order_of_the_plain_network(tmp_path):
    """InceptionV3's layers are ordered otherwise once its blocks are pooled too."""
    plain = build("InceptionV3", "last")
    with h5py.File(tmp_path / "old.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, plain)
    spec = parse_training_spec(
        {
            "base_model": "InceptionV3",
            "weights": str(tmp_path / "old.h5"),
            "image_size_px": plain.input_shape[1],
            "feature_maps": "blocks",
        }
    )

    base = build_model.build_base(spec, [tmp_path])

    pictures = draw_pictures(base)
    wanted = plain.predict_on_batch(pictures)
    got = base.predict_on_batch(pictures)[:, -wanted.shape[1] :]
    assert np.allclose(got, wanted, atol=1e-4)


def test_a_chain_without_branches_gives_the_last_map_of_every_side():
    base = build("VGG16", image_size_px=64)

    maps = [layer.input.shape[1] for layer in base.layers if "_mean" in layer.name]

    assert maps == [16, 8, 4]


def test_an_even_map_has_a_finite_slope():
    layer = block_features.GlobalDeviationPooling2D()
    model = keras.Sequential([keras.Input((4, 4, 2)), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")

    loss = model.train_on_batch(np.ones((2, 4, 4, 2), np.float32), np.ones((2, 1)))

    assert np.isfinite(loss)
    assert all(np.isfinite(weights).all() for weights in model.get_weights())
