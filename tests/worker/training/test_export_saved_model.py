import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageOps

from shared.artifacts import sha256_file
from shared.presets import build_training_spec
from tests.worker.training.pictures import build_pack
from worker.training import build_model, export_saved_model, golden_images
from worker.training.export_saved_model import ExportMismatch

# In one process, so that what its tests share is made once.
pytestmark = pytest.mark.xdist_group("export")

SPEC = build_training_spec(overrides={"image_size_px": 32})


def build_classifier(pack):
    """A classifier whose answers differ from picture to picture."""
    base = build_model.build_base(SPEC)
    head = build_model.build_head(SPEC, base.output_shape[-1], len(pack.classes))
    model = build_model.join(base, head)
    kernel = model.get_layer(build_model.PROBABILITIES_LAYER).kernel
    kernel.assign(kernel * 10)
    return model


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return build_pack(tmp_path_factory.mktemp("pack"), classes=3)


@pytest.fixture(scope="module")
def model(pack):
    return build_classifier(pack)


@pytest.fixture(scope="module")
def golden(model, pack):
    return golden_images.build_golden_images(model, pack, SPEC)


@pytest.fixture(scope="module")
def export(model, pack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("attempt") / "export"
    return export_saved_model.export_saved_model(model, pack, SPEC, folder)


def test_importing_what_publishes_hides_no_gpu():
    """A trainer imports it before it looks for devices."""
    code = (
        "import os; from worker.training import publish, check_export; "
        "print(os.environ.get('CUDA_VISIBLE_DEVICES', 'all'))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip

    assert done.stdout.split() == ["all"]


def test_a_clean_process_predicts_what_the_trained_model_does(export):
    parity = export.parity

    assert parity["golden_images"] == 16
    assert parity["pixels_max_abs_diff"] <= export_saved_model.PIXELS_LIMIT
    assert parity["serving_max_abs_diff"] <= export_saved_model.PIXELS_LIMIT
    assert parity["serving_labels_equal"] is True


def test_the_golden_pictures_are_told_apart_by_the_model(golden):
    # Else the comparison of labels would prove nothing.
    assert len(set(golden.probabilities.argmax(axis=1))) > 1


def test_a_golden_picture_is_turned_by_exif_and_one_is_grey(golden):
    turned, grey = (Image.open(io.BytesIO(file)) for file in golden.files[-2:])
    shown = ImageOps.exif_transpose(turned)
    resized = np.asarray(shown.resize((32, 32), Image.Resampling.BILINEAR), float)

    assert turned.getexif()[0x0112] == 6
    assert turned.size == shown.size[::-1]
    assert shown.width > shown.height
    assert np.abs(resized - golden.pixels[-2]).mean() < 3
    assert grey.mode == "L"
    assert np.ptp(golden.pixels[-1], axis=-1).max() == 0


def test_the_archive_holds_model_labels_example_and_measurement(export, pack):
    with zipfile.ZipFile(export.archive) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("MANIFEST.json"))
        labels = archive.read("labels.txt").decode().splitlines()
        example = archive.read("load_example.py").decode()

    assert labels == pack.classes
    assert "saved_model/saved_model.pb" in names
    assert manifest["parity"] == export.parity
    assert sorted(manifest["files"]) == sorted(set(names) - {"MANIFEST.json"})
    assert len(example.splitlines()) <= 15
    assert [path.name for path in export.archive.parent.iterdir()] == [
        "saved_model.zip"
    ]


def test_the_example_in_the_archive_runs_with_tensorflow_alone(
    export, pack, tmp_path, golden
):
    with zipfile.ZipFile(export.archive) as archive:
        archive.extractall(tmp_path)
    picture = tmp_path / "turned.jpg"
    picture.write_bytes(golden.files[-2])

    done = subprocess.run(
        [sys.executable, "-I", "load_example.py", str(picture)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    expected = pack.classes[golden.probabilities[-2].argmax()]
    assert f"{picture}: {expected} (" in done.stdout


def test_the_same_files_give_the_same_archive(tmp_path):
    content = tmp_path / "content"
    (content / "deep").mkdir(parents=True)
    (content / "deep" / "b").write_bytes(b"b" * 1000)
    (content / "a").write_bytes(b"a")

    export_saved_model.write_archive(content, tmp_path / "1.zip", {"x": 1})
    (content / "a").touch()
    export_saved_model.write_archive(content, tmp_path / "2.zip", {"x": 1})

    assert sha256_file(tmp_path / "1.zip") == sha256_file(tmp_path / "2.zip")


def test_a_model_whose_weights_changed_on_the_way_is_refused(pack, tmp_path):
    model = build_classifier(pack)
    golden = golden_images.build_golden_images(model, pack, SPEC)
    kernel = model.get_layer(build_model.PROBABILITIES_LAYER).kernel
    kernel.assign(kernel * 1.01)
    export_saved_model.write_saved_model(model, pack.classes, SPEC, tmp_path / "model")

    with pytest.raises(ExportMismatch, match="It is not published"):
        export_saved_model.check_in_clean_process(
            tmp_path / "model", golden, tmp_path / "check"
        )


def test_a_model_with_its_labels_in_another_order_is_refused(
    model, pack, golden, tmp_path
):
    swapped = pack.classes[::-1]
    export_saved_model.write_saved_model(model, swapped, SPEC, tmp_path / "model")

    with pytest.raises(ExportMismatch, match="another label than the trained one"):
        export_saved_model.check_in_clean_process(
            tmp_path / "model", golden, tmp_path / "check"
        )


def test_a_damaged_model_is_refused(model, pack, golden, tmp_path):
    export_saved_model.write_saved_model(model, pack.classes, SPEC, tmp_path / "model")
    graph = tmp_path / "model" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:1000])

    with pytest.raises(ExportMismatch, match="cannot be loaded in a clean process"):
        export_saved_model.check_in_clean_process(
            tmp_path / "model", golden, tmp_path / "check"
        )


def test_of_two_equally_likely_labels_either_is_right():
    golden = golden_images.GoldenImages(
        names=["one", "two"],
        files=[],
        pixels=np.empty(0),
        probabilities=np.array([[0.5, 0.5, 0.0], [0.6, 0.4, 0.0]]),
        classes=["a", "b", "c"],
    )

    assert golden.list_wrong(["b", "a"], tolerance=1e-5) == []
    assert golden.list_wrong(["c", "b"], tolerance=1e-5) == ["one", "two"]
    assert golden.list_wrong(["a", "d"], tolerance=1e-5) == ["two"]
