import numpy as np
import pytest

from tests.worker.insight.clouds import make_clouds, make_patients
from worker.insight.class_gains import describe_gains, measure_gains
from worker.insight.groups import draw_in_groups
from worker.insight.learning_curve import measure_points
from worker.insight.probe import Recipe
from worker.training.regression import draw_rows


def test_groups_are_drawn_whole_and_of_each_class_one():
    groups = np.repeat(np.arange(30), 4)
    labels = (groups >= 27).astype(int)
    rows = np.arange(len(groups))

    drawn = draw_in_groups(rows, labels, groups, 30, np.random.default_rng(0))

    assert np.array_equal(drawn, rows[np.isin(groups, groups[drawn])])
    assert set(labels[drawn]) == {0, 1}
    assert len(drawn) == pytest.approx(30, abs=4)


def test_a_group_is_drawn_for_the_class_of_most_of_its_pictures():
    groups = np.repeat(np.arange(2), 5)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])

    drawn = draw_in_groups(np.arange(10), labels, groups, 2, np.random.default_rng(0))

    assert len(drawn) == 10  # one group of either class, whole


def test_pictures_that_are_alone_are_drawn_as_without_groups():
    _, labels = make_clouds([40, 30, 5])
    rows = np.arange(1, len(labels), 2)

    alone, plain = (
        draw(np.random.default_rng(3))
        for draw in (
            lambda r: draw_in_groups(rows, labels, -np.arange(len(labels)), 12, r),
            lambda r: draw_rows(rows, labels, 12, r),
        )
    )

    assert np.array_equal(alone, plain)


def test_more_patients_help_where_more_pictures_of_the_same_do_not():
    features, labels, groups = make_patients()
    how = {"recipe": Recipe(1.0), "groups": groups}
    rows = np.arange(len(labels))

    gains = measure_gains(features, labels, rows, exponent=0.5, **how)
    points = measure_points(features, labels, rows, **how)

    assert min(gain.points for gain in gains) > 0.5
    assert points[-1].accuracy > points[0].accuracy + 0.05
    assert [gain.groups for gain in gains] == [10, 10]
    told = describe_gains(gains, ["ash", "bog"])
    assert all("more pictures" in row["sentence"] for row in told)
    assert all("in new groups would buy" in row["sentence"] for row in told)


def test_what_pictures_of_few_patients_teach_is_not_told():
    features, labels, groups = make_patients(3)

    gains = measure_gains(
        features,
        labels,
        np.arange(len(labels)),
        recipe=Recipe(1.0),
        exponent=0.5,
        groups=groups,
    )

    told = describe_gains(gains, ["ash", "bog"])
    assert all("of 3 groups: too few to tell" in row["sentence"] for row in told)


def test_pictures_that_are_alone_gain_as_without_groups():
    features, labels = make_clouds([60, 40, 12], apart=3.0)
    rows = np.arange(len(labels))

    alone, plain = (
        measure_gains(
            features, labels, rows, recipe=Recipe(1.0), exponent=0.5, groups=groups
        )
        for groups in (rows[::-1], None)
    )

    assert alone == plain
