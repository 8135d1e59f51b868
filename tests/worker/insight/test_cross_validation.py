import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from tests.worker.insight.clouds import make_clouds
from worker.insight import probe as probes
from worker.insight.components import reduce_features
from worker.insight.cross_validation import cross_validate
from worker.insight.discriminant import fit_discriminant
from worker.insight.folds import deal_folds
from worker.insight.groups import join_groups
from worker.insight.probe import Recipe, choose_recipe, fit_probe


def test_every_row_is_asked_about_by_a_probe_that_has_not_seen_it():
    random = np.random.default_rng(0)
    # Nothing can be learned here: whoever knows an answer has seen it.
    features = random.normal(size=(300, 200)).astype(np.float32)
    labels = random.integers(2, size=300)

    probed = cross_validate(features, labels, np.arange(300), classes=2)

    assert (probed.predicted == labels).mean() == pytest.approx(0.5, abs=0.1)


def test_classes_that_lie_apart_are_told_apart():
    features, labels = make_clouds(apart=6.0)

    probed = cross_validate(features, labels, np.arange(len(labels)), classes=3)

    assert (probed.predicted == labels).mean() > 0.97
    assert probed.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_only_the_rows_asked_about_are_fitted_on():
    features, labels = make_clouds()
    rows = np.arange(0, len(labels), 2)
    wrong = labels.copy()
    wrong[1::2] = 0  # of rows that nobody may look at

    one = cross_validate(features, labels, rows, classes=3)
    other = cross_validate(features, wrong, rows, classes=3)

    assert np.array_equal(one.rows, rows)
    assert np.array_equal(one.probabilities, other.probabilities)


def test_a_group_lies_in_one_fold():
    labels = np.tile([0, 1], 50)
    groups = np.arange(100) // 4

    folds = deal_folds(labels, groups)

    for group in np.unique(groups):
        assert len(np.unique(folds[groups == group])) == 1
    assert len(np.unique(folds)) == 5


def test_a_large_group_leaves_no_fold_empty():
    groups = np.array([0, 0, 1, 0, 3, 0, 4, 0, 0, 0, 0, 0])
    labels = np.array([1, 1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0])

    folds = deal_folds(labels, groups)

    assert sorted(np.unique(folds)) == list(range(int(folds.max()) + 1))
    assert folds.max() >= 1
    assert len(np.unique(folds[groups == 0])) == 1


def test_of_as_many_classes_as_pictures_folds_are_dealt_too():
    folds = deal_folds(np.arange(4))

    assert len(np.unique(folds)) == 4


def test_a_copy_with_a_wrong_label_is_not_confirmed_by_its_twin():
    features, labels = make_clouds(80, apart=8.0)
    copies = np.concatenate([features, features[:10]])
    told = np.concatenate([labels, (labels[:10] + 1) % 3])
    told[:10] = (labels[:10] + 1) % 3
    groups = np.concatenate([np.arange(len(labels)), np.arange(10)])

    probed = cross_validate(
        copies, told, np.arange(len(told)), classes=3, groups=groups
    )

    assert (probed.predicted[:10] == labels[:10]).mean() >= 0.9


def test_a_class_with_one_picture_is_no_reason_to_fail():
    features, labels = make_clouds([30, 30, 1])

    probed = cross_validate(features, labels, np.arange(61), classes=3)

    assert probed.probabilities.shape == (61, 3)
    assert np.isfinite(probed.probabilities).all()


def test_a_probe_that_has_seen_one_class_says_that_one():
    probe = fit_probe(np.zeros((3, 2)), np.array([1, 1, 1]), Recipe(1.0))

    assert probe.ask(np.ones((2, 2)), 3).tolist() == [[0, 1, 0], [0, 1, 0]]


def test_reduced_features_tell_as_much_as_all_of_them():
    features, labels = make_clouds(300, apart=5.0, size=200)

    reduced = reduce_features(features)
    probed = cross_validate(reduced, labels, np.arange(len(labels)), classes=3)

    assert reduced.dtype == np.float32
    assert reduced[:, 0].std() == pytest.approx(1, rel=0.05)
    assert (probed.predicted == labels).mean() > 0.9


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_features_that_are_no_numbers_or_never_change_do_no_harm(broken):
    features, _ = make_clouds()
    features[:, 3] = 5.0
    features[7, 2] = broken if np.isnan(broken) else np.nan

    reduced = reduce_features(features)

    assert np.isfinite(reduced).all()


def test_pictures_that_nobody_may_look_at_decide_no_component():
    features, _ = make_clouds()
    rows = np.arange(0, len(features), 2)
    other = features.copy()
    other[1::2] *= 100

    one, two = (reduce_features(made, rows)[rows] for made in (features, other))

    assert np.array_equal(one, two)


def test_groups_that_share_a_picture_are_one():
    patients = np.array([0, 0, 1, 2, 3])
    scenes = np.array([0, 1, 1, 2, 3])

    joined = join_groups([patients, scenes])

    assert joined.tolist() == [0, 0, 0, 1, 2]


def test_probes_fitted_by_several_threads_are_those_of_one():
    features, labels = make_clouds(apart=2.0)
    rows = np.arange(len(labels))

    one, four = (
        cross_validate(features, labels, rows, classes=3, threads=threads)
        for threads in (1, 4)
    )

    assert np.array_equal(one.probabilities, four.probabilities)


def test_of_many_classes_a_discriminant_analysis_tells_as_much(monkeypatch):
    features, labels = make_clouds(20, classes=40, apart=4.0, size=60)
    rows = np.arange(len(labels))
    slow = cross_validate(features, labels, rows, classes=40)
    monkeypatch.setattr(probes, "_MOST_PRODUCTS", 1000)

    fast = cross_validate(features, labels, rows, classes=40)

    assert fast.recipe == Recipe(None)
    assert slow.recipe.strength
    right = [(one.predicted == labels).mean() for one in (slow, fast)]
    assert right[1] > right[0] - 0.03
    assert fast.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_two_classes_have_one_boundary_however_many_rows():
    features, labels = make_clouds(60, classes=2)
    rows = np.arange(len(labels))

    recipe = choose_recipe(features, labels, rows[::2], rows[1::2])

    assert recipe.strength


def test_where_all_are_of_one_group_each_is_by_itself():
    folds = deal_folds(np.tile([0, 1], 20), np.zeros(40, int))

    assert np.bincount(folds).tolist() == [8] * 5


def test_a_discriminant_needs_no_second_picture_of_a_class():
    features, labels = make_clouds(1, classes=30, apart=9.0, size=40)

    told = fit_probe(features, labels, Recipe(None)).ask(features, 30)

    assert (told.argmax(axis=1) == labels).all()


def test_a_discriminant_tells_what_that_of_scikit_learn_tells():
    features, labels = make_clouds(200, apart=2.0)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(features, labels)

    ours = fit_discriminant(features, labels)

    said, expected = (one.predict_proba(features) for one in (ours, theirs))
    assert (said.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.98
    truths = np.arange(len(labels)), labels
    assert np.log(said[truths]).mean() > np.log(expected[truths]).mean() - 0.02
