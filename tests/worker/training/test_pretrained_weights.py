import os
import urllib.error
import urllib.request
from pathlib import Path

import keras
import numpy as np
import pytest

from shared.base_models import get_base_model
from shared.child_environment import find_weights_cache
from shared.errors import RetryableError, UserError
from shared.presets import build_training_spec
from tests.weight_digests import digest_weights
from worker.training import build_model, pretrained_weights

WEIGHTS = Path(__file__).parents[4] / "shared" / "data" / "weights"
needs_weights = pytest.mark.skipif(
    not WEIGHTS.is_dir(), reason=f"needs ImageNet weight files: {WEIGHTS} is not there"
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Keras's own folder, empty, on a machine without a network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "k"))

    def fail(*_arguments, **_options):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    return tmp_path / "k" / "models"


def make_spec(name, **fields):
    return build_training_spec(overrides={"base_model": name, **fields})


@needs_weights
@pytest.mark.parametrize(
    ("name", "constructor", "alpha"),
    [
        ("MobileNet", keras.applications.MobileNet, 1.0),
        ("MobileNetV2-0.35", keras.applications.MobileNetV2, 0.35),
    ],
)
@pytest.mark.parametrize("size", [224, 96])
def test_imagenet_weights_give_the_features_that_keras_gives(
    cache, name, constructor, alpha, size
):
    base = build_model.build_base(make_spec(name, image_size_px=size), [WEIGHTS])
    reference = constructor(
        input_shape=(size, size, 3),
        alpha=alpha,
        include_top=False,
        pooling="avg",
        weights=str(WEIGHTS / get_base_model(name).weights_file),
    )
    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3))

    got = base.predict_on_batch(pixels.astype(np.float32))

    expected = reference.predict_on_batch((pixels / 127.5 - 1).astype(np.float32))
    assert np.abs(expected).max() > 0.5
    assert np.allclose(got, expected, atol=1e-4)


def test_the_default_base_model_needs_neither_network_nor_folder(cache):
    path = pretrained_weights.find_imagenet_weights(
        get_base_model("EfficientNetLite0"), []
    )

    assert path.name == "efficientnet-lite0-57934424.pth"


@pytest.mark.parametrize(
    ("download", "kind", "why"),
    [
        (True, RetryableError, "fetched (<urlopen error no network here>)"),
        (False, UserError, "may not fetch them (TRAINYARD_DOWNLOAD_WEIGHTS)"),
    ],
)
def test_absent_weights_are_named_with_where_to_put_them(
    cache, tmp_path, download, kind, why
):
    with pytest.raises(kind) as caught:
        build_model.build_base(
            make_spec("ResNet50"), [tmp_path / "mirror"], download_weights=download
        )

    sentence = str(caught.value)
    file = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert why in sentence
    assert f"Download {get_base_model('ResNet50').weights_url}" in sentence
    assert f"put it as {file} into {tmp_path / 'mirror'} or {cache};" in sentence
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_machine_that_may_not_fetch_asks_nobody(cache, monkeypatch):
    asked = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: asked.append(1))

    with pytest.raises(UserError):
        pretrained_weights.find_imagenet_weights(
            get_base_model("ResNet50"), [], download=False
        )

    assert asked == []


def test_the_cache_is_where_keras_itself_keeps_weights():
    from keras.src.backend.config import keras_home  # noqa: PLC0415 - private

    assert find_weights_cache() == Path(keras_home()).expanduser() / "models"


@pytest.mark.parametrize("place", ["mirror", "mirror/models", "k/models"])
def test_weights_are_found_in_the_folders_and_in_keras_cache(cache, tmp_path, place):
    base_model = get_base_model("MobileNet-0.25")
    file = tmp_path / place / base_model.weights_file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")

    found = pretrained_weights.find_imagenet_weights(base_model, [tmp_path / "mirror"])

    assert found == file


def test_own_weights_are_loaded_from_a_weights_folder(cache, tmp_path):
    saved = build_model.build_base(make_spec("MobileNet-0.25", weights=None, seed=7))
    saved.save_weights(tmp_path / "mine.weights.h5")

    base = build_model.build_base(
        make_spec("MobileNet-0.25", weights="mine.weights.h5"), [tmp_path]
    )

    assert digest_weights(base) == (digest_weights(saved))


@pytest.mark.parametrize(
    "wish",
    ["../secret.h5", "link.h5", "/etc/passwd", "no.h5", "a\0b.h5", "n" * 300 + ".h5"],
)
def test_files_outside_the_weights_folders_are_refused(tmp_path, wish):
    folder = tmp_path / "weights"
    folder.mkdir()
    (tmp_path / "secret.h5").write_bytes(b"")
    (folder / "link.h5").symlink_to(tmp_path / "secret.h5")

    with pytest.raises(UserError, match="a file under the weights folders"):
        pretrained_weights.find_own_weights(wish, [folder])


def test_weights_of_an_unknown_kind_are_refused(tmp_path):
    (tmp_path / "weights.keras").write_bytes(b"")

    with pytest.raises(UserError, match=r"must be a \.pth, \.h5"):
        pretrained_weights.find_own_weights("weights.keras", [tmp_path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_weights_that_may_not_be_read_are_named(tmp_path):
    closed = tmp_path / "mine.h5"
    closed.write_bytes(b"")
    closed.chmod(0)

    with pytest.raises(UserError, match="may not read the weights file"):
        pretrained_weights.find_own_weights("mine.h5", [tmp_path])


def test_weights_of_another_network_are_refused(tmp_path):
    other = build_model.build_base(make_spec("MobileNetV2-0.35", weights=None))
    other.save_weights(tmp_path / "other.weights.h5")

    with pytest.raises(UserError, match=r"does not belong to MobileNet-0\.25"):
        build_model.build_base(
            make_spec("MobileNet-0.25", weights="other.weights.h5"), [tmp_path]
        )


def test_damaged_weights_are_refused(tmp_path):
    (tmp_path / "half.h5").write_bytes(b"\x89HDF\r\n\x1a\n and then nothing")

    with pytest.raises(UserError, match=r"half\.h5 is damaged"):
        build_model.build_base(
            make_spec("MobileNet-0.25", weights="half.h5"), [tmp_path]
        )


def test_one_changed_number_changes_the_digest():
    base = build_model.build_base(make_spec("MobileNet-0.25", weights=None))
    before = digest_weights(base)
    kernel = base.get_layer("conv1").kernel
    values = keras.ops.convert_to_numpy(kernel).copy()
    values[0, 0, 0, 0] = np.nextafter(values[0, 0, 0, 0], np.float32(1))
    kernel.assign(values)

    assert digest_weights(base) != before
