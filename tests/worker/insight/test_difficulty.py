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
from worker.insight.doctor.neighbours import (
    Neighbours,
    find_neighbours,
    reduce_features,
)


def _say(labels: np.ndarray, predicted: np.ndarray, sure: np.ndarray) -> Probed:
    told = np.full((len(labels), 3), 0.0, np.float32)
    told[np.arange(len(labels)), predicted] = sure
    return Probed(np.arange(len(labels)), told, 1.0)


def test_the_majority_baseline_is_the_share_of_the_largest_class():
    assert measure_majority(np.array([0, 1, 1, 1, 2])) == (0.6, 1)


def _neighbours_of(features: np.ndarray) -> Neighbours:
    return find_neighbours(reduce_features(features), 5)


def test_the_nearest_neighbour_of_a_cloud_has_its_class():
    features, labels = make_clouds(apart=8.0)

    accuracy, interval = measure_nearest_neighbour(
        _neighbours_of(features), labels, np.arange(len(labels))
    )

    assert accuracy > 0.9
    assert interval[0] <= accuracy <= interval[1]


def test_pictures_that_are_not_asked_about_do_not_answer_either():
    labels = np.array([0, 1, 0, 0])
    near = Neighbours(
        np.array([[1, 2], [0, 2], [1, 0], [1, 1]], np.int32), np.ones((4, 2))
    )

    accuracy, _ = measure_nearest_neighbour(near, labels, np.array([0, 2, 3]))

    # The one that nobody may ask comes first for all; the last has no other.
    assert accuracy == pytest.approx(2 / 3)


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
    neighbour = measure_nearest_neighbour(
        _neighbours_of(features), labels, np.arange(len(labels))
    )

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
