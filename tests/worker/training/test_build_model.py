"""Every family is built and trained for one step with random weights."""

import keras
import numpy as np
import pytest

from shared.base_models import BASE_MODELS, get_base_model
from shared.errors import UserError
from shared.presets import build_training_spec
from tests.weight_digests import digest_weights
from worker.training import build_model

# The smallest member of each family.
MEMBERS = [
    "EfficientNetLite0",
    "MobileNet-0.25",
    "MobileNetV2-0.35",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "ResNet50",
    "ResNet50V2",
    "DenseNet121",
    "ConvNeXtTiny",
    "InceptionV3",
    "InceptionResNetV2",
    "Xception",
    "NASNetMobile",
    "VGG16",
]


def make_spec(name="MobileNet-0.25", **fields):
    smallest = get_base_model(name).family.minimum_size_px
    return build_training_spec(
        overrides={
            "base_model": name,
            "weights": None,
            "image_size_px": smallest,
            **fields,
        }
    )


def build_all(spec, classes=3):
    base = build_model.build_base(spec)
    head = build_model.build_head(spec, base.output_shape[-1], classes)
    return base, head, build_model.join(base, head)


def read(variables):
    return {v.path: keras.ops.convert_to_numpy(v).copy() for v in variables}


def changed(before, variables):
    after = read(variables)
    return {path for path in before if not np.array_equal(before[path], after[path])}


def test_one_member_of_every_family_is_tried():
    families = {base_model.family.name for base_model in BASE_MODELS.values()}

    assert {get_base_model(name).family.name for name in MEMBERS} == families


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_of_every_family_is_built_and_trained_for_one_step(name):
    spec = make_spec(name)
    base, _, model = build_all(spec)
    build_model.set_trainable_from(base, 0.8)
    # Not as a graph, which takes longer to make than one step.
    model.compile(
        keras.optimizers.SGD(0.01), "categorical_crossentropy", run_eagerly=True
    )
    size = spec.image_size_px
    pixels = np.random.default_rng(0).integers(0, 255, (2, size, size, 3))
    before = read(model.variables)

    loss = model.train_on_batch(pixels.astype(np.float32), np.eye(3)[:2])
    probabilities = keras.ops.convert_to_numpy(model(pixels.astype(np.float32)))

    facts = get_base_model(name)
    trained = {v.path for v in model.trainable_variables}
    moved = changed(before, model.variables)
    assert np.isfinite(loss)
    assert base.count_params() == facts.parameters
    assert base.output_shape == (None, facts.feature_size)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert "probabilities/bias" in moved
    assert {path for path in moved if "seed_generator" not in path} <= trained


def test_efficientnet_is_given_imagenet_statistics_whatever_its_weights():
    base = build_model.build_base(make_spec("EfficientNetB0"))
    normalized = keras.Model(base.input, base.get_layer("normalization").output)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)

    got = normalized.predict_on_batch(pixels)

    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(got, expected, atol=1e-4)


def test_the_same_spec_gives_the_same_names_and_weights_whatever_was_built_before():
    spec = make_spec("MobileNetV2-0.35")
    first = build_model.build_base(spec)
    names, digest = [layer.name for layer in first.layers], digest_weights(first)
    keras.layers.Dense(3)(keras.Input((4,)))

    again = build_model.build_base(spec)

    assert [layer.name for layer in again.layers] == names
    assert digest_weights(again) == digest


def test_another_seed_gives_other_random_weights():
    first = build_model.build_base(make_spec(seed=1))
    second = build_model.build_base(make_spec(seed=2))

    assert digest_weights(first) != digest_weights(second)


def test_the_head_is_what_the_spec_says():
    spec = make_spec(head={"units": [8, 4], "dropout": 0.5})

    head = build_model.build_head(spec, 16, 3)

    assert [layer.name for layer in head.layers] == [
        "head_features",
        "head_dropout_0",
        "head_dense_0",
        "head_dropout_1",
        "head_dense_1",
        "head_dropout_2",
        "probabilities",
    ]
    assert head.output_shape == (None, 3)
    assert head.count_params() == 16 * 8 + 8 + 8 * 4 + 4 + 4 * 3 + 3


def test_no_dropout_means_no_dropout_layer():
    head = build_model.build_head(make_spec(head={"dropout": 0}), 16, 3)

    assert [layer.name for layer in head.layers] == ["head_features", "probabilities"]


def test_joined_model_shares_the_variables_of_base_and_head():
    base, head, model = build_all(make_spec())
    pixels = np.zeros((1, 32, 32, 3), np.float32)
    expected = head.predict_on_batch(base.predict_on_batch(pixels))

    assert np.allclose(model.predict_on_batch(pixels), expected, atol=1e-6)
    assert {v.path for v in head.weights} <= {v.path for v in model.weights}
    assert model.get_layer("probabilities") is head.get_layer("probabilities")


def test_a_base_is_frozen_until_it_is_told_otherwise():
    base, _, model = build_all(make_spec())

    assert base.trainable_variables == []
    assert {v.path for v in model.trainable_variables} == {
        "probabilities/kernel",
        "probabilities/bias",
    }


def test_a_share_of_the_depth_stays_frozen():
    base = build_model.build_base(make_spec())
    everything = build_model.set_trainable_from(base, 0.0)
    half = build_model.set_trainable_from(base, 0.5)
    nothing = build_model.set_trainable_from(base, 1.0)

    assert everything > half > nothing == 0


def test_a_layer_name_is_the_first_that_is_trained():
    base = build_model.build_base(make_spec())

    build_model.set_trainable_from(base, "conv_pw_13")

    assert [v.path for v in base.trainable_variables] == ["conv_pw_13/kernel"]


def test_batch_normalization_stays_in_inference_mode():
    base, _, model = build_all(make_spec())
    build_model.set_trainable_from(model, 0.0)
    model.compile("sgd", "categorical_crossentropy")
    statistics = [v for v in base.variables if "moving_" in v.path]
    before = read(statistics)

    model.train_on_batch(np.ones((2, 32, 32, 3), np.float32), np.eye(3)[:2])

    assert len(before) == 54
    assert not changed(before, statistics)


def test_unfreezing_the_joined_model_leaves_its_head_trainable():
    _, _, model = build_all(make_spec())

    build_model.set_trainable_from(model, 1.0)

    assert {v.path for v in model.trainable_variables} == {
        "probabilities/kernel",
        "probabilities/bias",
    }


def test_an_unknown_layer_is_refused_with_close_names():
    base = build_model.build_base(make_spec())

    with pytest.raises(UserError, match=r"Close names: .*conv_pw_13") as caught:
        build_model.set_trainable_from(base, "conv_pw13")

    assert caught.value.field == "unfreeze_from"
