import numpy as np
import pytest

from tests.worker.insight.clouds import make_clouds
from worker.insight.cross_validation import Probed, cross_validate
from worker.insight.difficulty import (
    describe_difficulty,
    grade_of,
    list_confusions,
    measure_majority,
    measure_nearest_neighbour,
)
from worker.insight.nearest import find_nearest, normalise


def _say(labels: np.ndarray, predicted: np.ndarray, sure: np.ndarray) -> Probed:
    told = np.full((len(labels), 3), 0.0, np.float32)
    told[np.arange(len(labels)), predicted] = sure
    return Probed(np.arange(len(labels)), told, 1.0)


def test_the_majority_baseline_is_the_share_of_the_largest_class():
    assert measure_majority(np.array([0, 1, 1, 1, 2])) == (0.6, 1)


def test_a_picture_is_not_its_own_nearest_neighbour():
    features = np.eye(4, dtype=np.float32)
    labels = np.array([0, 0, 1, 1])

    places, _ = find_nearest(normalise(features), 1)
    accuracy, interval = measure_nearest_neighbour(features, labels)

    assert (places[:, 0] != np.arange(4)).all()
    assert interval[0] <= accuracy <= interval[1]


def test_copies_of_a_picture_are_no_neighbours_of_each_other():
    features = np.array([[1, 0], [1, 0], [0.9, 0.1], [0, 1]], np.float32)
    groups = np.array([0, 0, 1, 2])

    places, _ = find_nearest(normalise(features), 1, groups)

    assert places[:2, 0].tolist() == [2, 2]


def test_nearest_neighbours_in_blocks_are_those_of_one_product(monkeypatch):
    features, _ = make_clouds(40)
    directions = normalise(features)
    whole = find_nearest(directions, 5)

    monkeypatch.setattr("worker.insight.nearest._BLOCK_BYTES", 4 * 120 * 7)

    blocked = find_nearest(directions, 5)
    assert np.allclose(whole[1], blocked[1], atol=1e-6)
    assert (whole[0] == blocked[0]).mean() > 0.99


def test_confusions_come_by_number_and_their_surest_mistakes_first():
    labels = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([1, 1, 0, 0, 1, 2])
    sure = np.array([0.6, 0.9, 0.5, 0.7, 0.8, 0.9], np.float32)

    found = list_confusions(_say(labels, predicted, sure), labels)

    assert [(one.truth, one.taken_for, len(one.rows)) for one in found] == [
        (0, 1, 2),
        (1, 0, 1),
    ]
    assert found[0].rows.tolist() == [1, 0]
    assert found[0].share == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("accuracy", "majority", "grade"),
    [
        (0.99, 0.5, "easy"),
        (0.9, 0.5, "moderate"),
        (0.85, 0.69, "hard"),
        (0.72, 0.7, "very hard"),
        (0.5, 0.7, "very hard"),
        (1.0, 1.0, "very hard"),
    ],
)
def test_the_grade_is_what_the_probe_wins_beyond_the_majority(
    accuracy, majority, grade
):
    assert grade_of(accuracy, majority) == grade


def test_the_sentence_names_grade_baseline_confusion_and_weakest_class():
    features, labels = make_clouds([90, 60, 30], apart=2.0)
    probed = cross_validate(features, labels, np.arange(len(labels)), classes=3)
    neighbour = measure_nearest_neighbour(features, labels)

    told = describe_difficulty(
        probed, labels, ["ash", "bog", "cob"], neighbour, lambda row: (f"{row}", "n")
    )

    assert told["majority"] == {"accuracy": 0.5, "label": "ash"}
    assert told["probe"]["interval"][0] < told["probe"]["accuracy"]
    assert set(told["probe"]["recall"]) == {"ash", "bog", "cob"}
    assert f"a {told['grade']} dataset" in told["sentence"]
    assert "50%" in told["sentence"]
    assert "The hardest class is" in told["sentence"]
    assert {"sha256", "name"} == set(told["confusions"][0]["examples"][0])
