import json

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest

from shared.presets import build_training_spec
from tests.worker.training.hungry_layer import Hungry
from tests.worker.training.pictures import build_pack
from worker.training import evaluate, model_card
from worker.training.intervals import wilson_interval

# Four pictures of a, three of b, one of c; two of a are called b, one of b is called c.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
PROBABILITIES = np.array(
    [
        [0.9, 0.05, 0.05],
        [0.6, 0.3, 0.1],
        [0.2, 0.7, 0.1],
        [0.3, 0.5, 0.2],
        [0.1, 0.8, 0.1],
        [0.2, 0.7, 0.1],
        [0.1, 0.3, 0.6],
        [0.0, 0.1, 0.9],
    ],
    np.float32,
)
CLASSES = ["a", "b", "c"]


@pytest.fixture
def measured():
    return evaluate.measure(
        PROBABILITIES, LABELS, CLASSES, train_labels=np.array([1, 1, 0, 2])
    )


def test_accuracy_and_baseline_are_shares_of_the_test_images(measured):
    assert measured["images"] == 8
    assert measured["accuracy"] == 5 / 8
    assert measured["baseline_majority"] == 3 / 8  # the training split's favourite is b


def test_confusion_counts_true_rows_by_predicted_columns(measured):
    assert measured["confusion"] == [[2, 2, 0], [0, 2, 1], [0, 0, 1]]


def test_per_class_numbers_follow_from_the_confusion(measured):
    a, b, c = measured["per_class"]

    assert (a["precision"], a["recall"], a["images"]) == (1.0, 0.5, 4)
    assert a["f1"] == pytest.approx(2 / 3)
    assert (b["precision"], b["recall"]) == (0.5, pytest.approx(2 / 3))
    assert (c["precision"], c["recall"], c["f1"]) == (0.5, 1.0, pytest.approx(2 / 3))


def test_loss_is_the_mean_cross_entropy(measured):
    truths = [0.9, 0.6, 0.2, 0.3, 0.8, 0.7, 0.3, 0.9]

    assert measured["loss"] == pytest.approx(-np.mean(np.log(truths)), rel=1e-6)


def test_wilson_interval_agrees_with_published_values():
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


def test_wilson_interval_stays_within_zero_and_one():
    assert wilson_interval(5, 5)[1] == 1.0
    assert wilson_interval(0, 5)[0] == 0.0


def test_calibration_error_is_the_weighted_gap_of_confidence_and_accuracy():
    probabilities = np.array([[0.95, 0.05]] * 4 + [[0.55, 0.45]] * 4, np.float32)
    labels = np.array([0, 0, 0, 1, 0, 1, 1, 1])

    calibration = evaluate.measure_calibration(probabilities, labels)

    assert calibration["ece"] == pytest.approx(0.5 * 0.2 + 0.5 * 0.3, abs=1e-6)
    assert [b["images"] for b in calibration["bins"]] == [4, 4]
    assert calibration["bins"][1]["accuracy"] == 0.75


def test_full_confidence_falls_into_the_last_bin():
    calibration = evaluate.measure_calibration(np.array([[1.0, 0.0]]), np.array([0]))

    assert calibration["bins"][0]["hi"] == 1.0
    assert calibration["ece"] == 0.0


def test_a_class_that_is_never_named_has_precision_zero():
    rows = evaluate.measure_classes(np.array([[0, 3], [0, 0]]), ["a", "b"])

    assert [row["precision"] for row in rows] == [0.0, 0.0]
    assert [row["recall"] for row in rows] == [0.0, 0.0]


def test_evaluation_reads_the_test_split_and_keeps_every_prediction(tmp_path):
    pack = build_pack(tmp_path, each=20)
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(pooled))
    spec = build_training_spec(overrides={"batch_size": 4})
    reports = []

    result = evaluate.evaluate(model, pack, spec, lambda *at: reports.append(at))
    result.write(tmp_path, parity={"golden_images": 3})

    table = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    summary = json.loads((tmp_path / "evaluation.json").read_text())
    test = pack.splits["test"]
    assert table["sha256"] == [image.sha256 for image in pack.dataset.describe(test)]
    assert table["label"] == [pack.classes[pack.labels[row]] for row in test]
    expected = model.predict_on_batch(pack.pixels[test].astype(np.float32))
    assert np.allclose(table["probabilities"], expected, atol=1e-6)
    assert summary["images"] == len(test) == reports[-1][1]
    assert summary["parity"] == {"golden_images": 3}


def test_test_images_that_do_not_fit_the_memory_at_once_are_asked_in_halves(tmp_path):
    tried = []

    class Watched(keras.Model):
        def predict_on_batch(self, x):
            tried.append(len(x))
            return super().predict_on_batch(x)

    pack = build_pack(tmp_path, each=20)
    image = keras.Input((32, 32, 3))
    pooled = Hungry(most=2)(keras.layers.GlobalAveragePooling2D()(image))
    model = Watched(image, keras.layers.Dense(2, activation="softmax")(pooled))

    result = evaluate.evaluate(
        model, pack, build_training_spec(overrides={"batch_size": 64})
    )

    assert len(result.rows) == 6
    assert np.allclose(result.probabilities.sum(axis=1), 1)
    assert tried == [6, 3, *[1] * 6], "no size is tried twice"


def test_model_card_tells_accuracy_interval_and_recipe(tmp_path, measured):
    measured["splits"] = {"train": 10, "val": 4, "test": 8}
    spec = build_training_spec(overrides={"base_model": "MobileNet"})

    model_card.write_model_card(
        tmp_path / "card.md",
        title="Sorting",
        spec=spec,
        fingerprint="f" * 64,
        evaluation=measured,
        best={"phase": "frozen", "step": 3, "monitor": "val_loss", "value": 0.5},
        seconds={"frozen": 3.2},
        versions={"keras": "3"},
    )

    card = (tmp_path / "card.md").read_text()
    assert "**62.5%** on 8 pictures (95 % interval 30.6% to 86.3%" in card
    assert "| b | 0.500 | 0.667 | 0.571 | 3 |" in card
    assert "MobileNet (MobileNet, 3,228,864 parameters) with ImageNet weights" in card
    assert "224 x 224" in card


def test_labels_cannot_write_markup_into_the_card(tmp_path, measured):
    measured["classes"] = ["<script>", "b", "c"]
    measured["per_class"][0]["label"] = "a | b"

    model_card.write_model_card(
        tmp_path / "card.md",
        title="Sorting",
        spec=build_training_spec(),
        fingerprint="f",
        evaluation=measured,
    )

    card = (tmp_path / "card.md").read_text()
    assert "\\<script\\>" in card
    assert "a \\| b" in card


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "none"),
        ({"fine_tune_epochs": 1, "mixup": 0.2}, "brightness up to 0.1, mixup 0.2"),
        ({"feature_views": 2, "mixup": 0.2}, "brightness up to 0.1"),
    ],
)
def test_the_card_lists_every_setting_and_the_changes_made(
    tmp_path, measured, changes, told
):
    spec = build_training_spec(overrides=changes)

    model_card.write_model_card(
        tmp_path / "card.md",
        title="Sorting",
        spec=spec,
        fingerprint="f",
        evaluation=measured,
    )

    card = (tmp_path / "card.md").read_text()
    settings = json.loads(card.split("```json")[1].split("```")[0])
    assert settings == spec.model_dump(mode="json")
    (line,) = [row for row in card.splitlines() if "Random changes" in row]
    assert line.endswith(f"{told}.")
