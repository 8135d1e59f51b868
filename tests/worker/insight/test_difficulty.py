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
from worker.insight.doctor.appearance import Appearance
from worker.insight.doctor.duplicates import Duplicates
from worker.insight.doctor.examination import Likeness
from worker.insight.doctor.neighbours import (
    Neighbours,
    find_neighbours,
    reduce_features,
)
from worker.insight.probe import Recipe


def _say(labels: np.ndarray, predicted: np.ndarray, sure: np.ndarray) -> Probed:
    told = np.full((len(labels), 3), 0.0, np.float32)
    told[np.arange(len(labels)), predicted] = sure
    return Probed(np.arange(len(labels)), told, Recipe(1.0))


def test_the_majority_baseline_is_the_share_of_the_largest_class():
    assert measure_majority(np.array([0, 1, 1, 1, 2])) == (0.6, 1)


def _likeness(directions: np.ndarray, neighbours: Neighbours) -> Likeness:
    nothing = np.zeros(0)
    return Likeness(
        directions,
        neighbours,
        Appearance(nothing, nothing, nothing, nothing, nothing),
        Duplicates(np.zeros((0, 2), int), nothing, np.full(len(directions), -1)),
    )


def _likeness_of(features: np.ndarray) -> Likeness:
    directions = reduce_features(features)
    return _likeness(directions, find_neighbours(directions, 5))


def test_the_nearest_neighbour_of_a_cloud_has_its_class():
    features, labels = make_clouds(apart=8.0)

    accuracy, interval = measure_nearest_neighbour(
        _likeness_of(features), labels, np.arange(len(labels))
    )

    assert accuracy > 0.9
    assert interval[0] <= accuracy <= interval[1]


def test_pictures_that_are_not_asked_about_do_not_answer_either():
    labels = np.array([0, 1, 0, 0])
    near = Neighbours(
        np.array([[1, 2], [0, 2], [1, 0], [1, 1]], np.int32), np.ones((4, 2))
    )

    directions = np.array([[1, 0], [1, 0], [0.9, 0.1], [0.8, 0.2]], np.float32)

    accuracy, _ = measure_nearest_neighbour(
        _likeness(directions, near), labels, np.array([0, 2, 3])
    )

    # The one that nobody may ask comes first for all; for the last, who has no other
    # among the nearest, all are asked.
    assert accuracy == 1


def test_nobody_answers_for_its_own_copy():
    features, labels = make_clouds(30, apart=8.0)
    copies = np.concatenate([features, features])
    told = np.concatenate([labels, (labels + 1) % 3])  # each copy has a wrong label
    own = np.tile(np.arange(len(labels)), 2)
    rows = np.arange(len(told))

    known, _ = measure_nearest_neighbour(_likeness_of(copies), told, rows)
    kept, _ = measure_nearest_neighbour(_likeness_of(copies), told, rows, groups=own)

    assert known < 0.1
    assert kept > 0.3


def test_where_all_are_of_one_group_nobody_can_answer():
    features, labels = make_clouds(4)

    accuracy, _ = measure_nearest_neighbour(
        _likeness_of(features),
        labels,
        np.arange(len(labels)),
        groups=np.zeros(len(labels), int),
    )

    assert accuracy == 0


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
        _likeness_of(features), labels, np.arange(len(labels))
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
