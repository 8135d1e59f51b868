import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from shared.artifacts import verify_manifest
from shared.presets import PRESETS, build_training_spec
from tests.worker.training.engine_process import Engine, run_killed_at, run_to_end
from tests.worker.training.pictures import write_pictures
from worker.insight.doctor.finding import read_findings
from worker.training.features import open_or_compute_features
from worker.training.frozen_base import FrozenBase
from worker.training.pack import open_or_build_pack, read_dataset

MODULE = "worker.insight.run"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A small dataset, and SPEC.json of a forecast on it that times no steps."""
    root = tmp_path_factory.mktemp("forecast")
    write_pictures(root / "pictures", classes=3, each=14, side=40)
    Image.new("RGB", (40, 40)).save(root / "pictures" / "class0" / "night.png")
    spec = {
        "kind": "forecast",
        "dataset": str(root / "pictures"),
        "caches": str(root / "caches"),
        "times_steps": False,
    }
    (root / "SPEC.json").write_text(json.dumps(spec))
    return root


@pytest.fixture(scope="module")
def forecast(asked):
    """What a forecast says that was killed in the middle of its first pass."""
    killed = run_killed_at(
        asked / "SPEC.json",
        asked / "first",
        lambda event: event["event"] == "durable" and event["what"] == "features",
        module=MODULE,
    )
    assert killed.named("finished") == []
    engine = run_to_end(asked / "SPEC.json", asked / "second", module=MODULE)
    (finished,) = engine.named("finished")
    folder = asked / "second" / "final"
    assert finished["path"] == str(folder)
    manifest = verify_manifest(folder, finished["manifest_sha"])
    assert {"forecast.json", "findings.parquet"} <= set(manifest["files"])
    return json.loads((folder / "forecast.json").read_text())


@pytest.mark.xdist_group("insight")
def test_a_forecast_says_how_hard_how_much_and_how_long(forecast):
    assert forecast["classes"] == ["class0", "class1", "class2"]
    assert sum(forecast["images"].values()) == 43
    assert forecast["difficulty"]["probe"]["accuracy"] > 0.8  # a colour each
    assert forecast["difficulty"]["sentence"]
    assert [p["share"] for p in forecast["learning_curve"]["points"]] == [
        0.1,
        0.25,
        0.5,
        1.0,
    ]
    assert forecast["winner"] == "EfficientNetLite0"
    assert set(forecast["presets"]) == set(PRESETS)
    for promised in forecast["presets"].values():
        low, middle, high = promised["accuracy"]
        assert 0 <= low < middle < high <= 1
        assert promised["disk_bytes"]["total"] > 0
        assert promised["memory_bytes"] > 0


@pytest.mark.xdist_group("insight")
def test_what_the_doctor_found_comes_with_pictures(asked, forecast):
    folder = asked / "second" / "final"

    found = read_findings(folder / "findings.parquet")

    counted = Counter(finding.kind for finding in found)
    assert forecast["findings"]["counts"] == dict(counted)
    (dark,) = [finding for finding in found if finding.kind == "too_dark"]
    assert "night.png" in dark.sentence
    shown = {path.stem for path in (folder / "thumbnails").iterdir()}
    assert {sha256 for finding in found for sha256 in finding.images} <= shown


@pytest.mark.xdist_group("insight")
@pytest.mark.parametrize("preset", PRESETS)
def test_its_features_are_the_trainings_features(asked, forecast, preset):
    spec = build_training_spec(preset).model_copy(update={"feature_views": 1})
    base = FrozenBase(spec)
    pack = open_or_build_pack(
        read_dataset(asked / "pictures"),
        image_size_px=base.image_size_px,
        fit=spec.fit,
        caches=asked / "caches",
    )

    found = open_or_compute_features(pack, base, spec, asked / "caches")

    assert forecast
    assert found.found == [True]


@pytest.mark.xdist_group("insight")
def test_a_base_model_whose_server_is_away_is_left_out_and_named(asked, forecast):
    spec = json.loads((asked / "SPEC.json").read_text())
    spec["base_models"] = ["EfficientNetLite0", "ResNet50"]
    (asked / "BASES.json").write_text(json.dumps(spec))

    run_to_end(
        asked / "BASES.json",
        asked / "third",
        module=MODULE,
        https_proxy="http://127.0.0.1:9",  # nothing listens there
        KERAS_HOME=str(asked / "keras"),
    )

    told = json.loads((asked / "third" / "final" / "forecast.json").read_text())
    assert forecast["base_models_left_out"] == []
    assert [row["name"] for row in told["base_models"]] == ["EfficientNetLite0"]
    (left_out,) = told["base_models_left_out"]
    assert left_out["name"] == "ResNet50"
    assert "could not be fetched" in left_out["reason"]


@pytest.mark.xdist_group("insight")
def test_bursts_that_the_split_tears_are_promised_what_the_test_split_will_show(
    asked, forecast, tmp_path
):
    """Scenes whose class is chance: nothing but their other frames tells it."""
    random = np.random.default_rng(0)
    for scene in range(24):
        folder = tmp_path / "pictures" / f"class{scene % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        blocks = Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8))
        picture = blocks.resize((192, 192), Image.Resampling.NEAREST)
        for frame in range(5):
            lit = ImageEnhance.Brightness(picture).enhance(0.9 + 0.05 * frame)
            lit.save(folder / f"{scene:02}-{frame}.png")
    spec = {
        "kind": "forecast",
        "dataset": str(tmp_path / "pictures"),
        "caches": str(asked / "caches"),  # with what `forecast` has found out
        "times_steps": False,
    }
    (tmp_path / "SPEC.json").write_text(json.dumps(spec))

    run_to_end(tmp_path / "SPEC.json", tmp_path / "work", module=MODULE)

    told = json.loads((tmp_path / "work" / "final" / "forecast.json").read_text())
    assert forecast["difficulty"]["probe"]["accuracy"] > 0.8
    fast, difficulty = told["presets"]["fast"], told["difficulty"]
    assert difficulty["probe"]["accuracy"] < 0.8
    assert fast["probe"]["accuracy"] > 0.95
    assert "of the test pictures have near copies" in difficulty["sentence"]


@pytest.mark.xdist_group("insight")
def test_a_dataset_of_one_class_is_refused_with_a_sentence(tmp_path):
    folder = tmp_path / "pictures" / "only"
    folder.mkdir(parents=True)
    for number in range(6):
        pixels = np.full((40, 40, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    spec = {"kind": "forecast", "dataset": str(tmp_path / "pictures")}
    (tmp_path / "SPEC.json").write_text(json.dumps(spec))

    engine = Engine(tmp_path / "SPEC.json", tmp_path / "work", module=MODULE)

    assert engine.finish() == 64
    (failed,) = engine.named("failed")
    assert failed["permanent"]
