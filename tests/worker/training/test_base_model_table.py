"""The table of base models says what the installed Keras does, member by member."""

import inspect
import sys

import keras
import numpy as np
import pytest
from keras.src.applications import imagenet_utils
from keras.src.utils import file_utils

from shared.base_models import BASE_MODELS, get_base_model
from shared.presets import build_training_spec
from worker.training import build_model

KERAS_MEMBERS = [
    name for name, base_model in BASE_MODELS.items() if not base_model.works_offline
]


class Asked:
    """What a constructor of Keras asked for while it built its network."""

    def __init__(self, monkeypatch):
        self.size = {}
        self.file = ()
        self._obtain = imagenet_utils.obtain_input_shape
        monkeypatch.setattr(imagenet_utils, "obtain_input_shape", self._note_size)
        monkeypatch.setattr(file_utils, "get_file", self._note_file)
        monkeypatch.setattr(keras.Model, "load_weights", lambda *_, **__: None)

    def _note_size(self, input_shape, default_size, min_size, **more):
        self.size = {"native": default_size, "smallest": min_size}
        return self._obtain(input_shape, default_size, min_size, **more)

    def _note_file(self, name, origin, **more):
        self.file = (name, origin, more.get("file_hash") or more.get("md5_hash"))
        return name


def options_of(base_model):
    options = {}
    if base_model.alpha is not None:
        options["alpha"] = base_model.alpha
    if base_model.minimalistic:
        options["minimalistic"] = True
    return options


def test_every_keras_application_is_in_the_table():
    constructors = {
        name
        for name, member in inspect.getmembers(keras.applications)
        if inspect.isfunction(member)
    }

    assert constructors == {get_base_model(name).constructor for name in KERAS_MEMBERS}


@pytest.mark.parametrize("name", KERAS_MEMBERS)
def test_a_row_says_what_keras_would_build_and_load(monkeypatch, name):
    row = get_base_model(name)
    asked = Asked(monkeypatch)

    # No variable is given a value in this scope: even the largest are built in seconds.
    with keras.StatelessScope(initialize_variables=False):
        model = getattr(keras.applications, row.constructor)(
            input_shape=(row.native_size_px, row.native_size_px, 3),
            weights="imagenet",
            include_top=False,
            pooling="avg",
            **options_of(row),
        )

    assert asked.file == (row.weights_file, row.weights_url, row.weights_hash)
    assert model.count_params() == row.parameters
    assert model.output_shape == (None, row.feature_size)
    if row.family.name == "MobileNetV3":  # asks no size: its weights' name tells it
        assert f"_{row.native_size_px}_" in row.weights_file
    else:
        assert asked.size == {
            "native": row.native_size_px,
            "smallest": row.family.minimum_size_px,
        }


@pytest.mark.parametrize("name", KERAS_MEMBERS)
def test_pixels_are_preprocessed_as_keras_does_for_the_member(name):
    row = get_base_model(name)
    # The module that builds a network is the one that says how its pixels are fed.
    module = sys.modules[getattr(keras.applications, row.constructor).__module__]
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    image = keras.Input((8, 8, 3))

    prepared = keras.Model(image, build_model._preprocess(row, image))

    expected = module.preprocess_input(pixels.copy())
    assert np.allclose(prepared.predict_on_batch(pixels), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "pixel", "fed"),
    [
        ("EfficientNetLite0", 255, 1.0),
        ("EfficientNetLite1", 0, -127 / 128),
        ("EfficientNetLite2", 127, 0.0),
    ],
)
def test_lite_is_fed_as_its_authors_do(name, pixel, fed):
    row = get_base_model(name)
    image = keras.Input((2, 2, 3))
    prepared = keras.Model(image, build_model._preprocess(row, image))
    pixels = np.full((1, 2, 2, 3), pixel, np.float32)

    assert np.allclose(prepared.predict_on_batch(pixels), fed, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("EfficientNetLite0", 224),
        ("EfficientNetLite1", 240),
        ("EfficientNetLite2", 260),
    ],
)
def test_lite_is_built_offline_at_its_native_size(monkeypatch, tmp_path, name, size):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    row = get_base_model(name)

    base = build_model.build_base(
        build_training_spec(overrides={"base_model": name}), download_weights=False
    )

    assert base.input_shape == (None, size, size, 3)
    assert base.count_params() == row.parameters
    assert base.output_shape == (None, row.feature_size)
    # Trained weights, not the random ones: a stem of ImageNet has learned statistics.
    variance = base.get_layer("stem_norm").moving_variance
    assert not np.allclose(keras.ops.convert_to_numpy(variance), 1)
