"""A head can start at the regression on its features instead of at random."""

import numpy as np
import pytest

from shared.errors import UserError
from shared.training_spec import parse_training_spec
from worker.training import build_model
from worker.training.head_start import start_at_regression
from worker.training.regression import draw_rows


def clouds(classes, rows=240, width=12):
    random = np.random.default_rng(1)
    labels = np.arange(rows) % classes
    centres = random.normal(size=(classes, width)) * 2
    features = centres[labels] + random.normal(size=(rows, width))
    return features.astype(np.float32), labels


def started(classes, labels=None, features=None):
    drawn, numbers = clouds(classes)
    features = drawn if features is None else features
    labels = numbers if labels is None else labels
    head = build_model.build_head(
        parse_training_spec({"head_start": "logistic"}), features.shape[1], classes
    )
    rows = np.arange(len(labels))
    start_at_regression(
        head, [features], labels, train=rows[:160], held_out=rows[160:], seed=0
    )
    return head, features, labels


@pytest.mark.parametrize("classes", [2, 5])
def test_the_head_starts_out_knowing_the_classes(classes):
    head, features, labels = started(classes)

    guesses = head.predict_on_batch(features[160:])

    assert np.mean(guesses.argmax(axis=1) == labels[160:]) > 0.9


def test_it_starts_at_the_same_weights_every_time():
    first, again = started(3)[0], started(3)[0]

    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_feature_that_never_changes_gets_no_weight():
    features, _ = clouds(3)
    features[:, 4] = 7

    head, *_ = started(3, features=features)

    kernel, _ = head.get_layer("probabilities").get_weights()
    assert not kernel[4].any()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_what_the_features_are_counted_in_changes_nothing(scale):
    features, labels = clouds(3)
    features[:, 4] = 7

    head, *_ = started(3, features=features * np.float32(scale))

    guesses = head.predict_on_batch(features[160:] * np.float32(scale))
    kernel, _ = head.get_layer("probabilities").get_weights()
    assert np.mean(guesses.argmax(axis=1) == labels[160:]) > 0.9
    assert not kernel[4].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [3, 170])
def test_features_that_are_no_numbers_are_refused_with_a_sentence(value, row):
    features, _ = clouds(3)
    features[row, 4] = value

    with pytest.raises(UserError, match="no number") as raised:
        started(3, features=features)

    assert raised.value.field == "training.weights"


def test_dropout_leaves_it_most_of_what_it_knows():
    features, labels = clouds(2)

    head, *_ = started(2, features=features / 100 + 50)

    guesses = head(features / 100 + 50, training=True)
    right = np.asarray(guesses).argmax(axis=1) == labels
    assert right.mean() > 0.8


def test_augmented_views_are_learned_too():
    plain, labels = clouds(2)
    augmented = np.zeros_like(plain)
    augmented[:, 6:] = plain[:, :6]  # says the same in features that the plain lacks
    plain[:, 6:] = 0
    head = build_model.build_head(
        parse_training_spec({"head_start": "logistic"}), plain.shape[1], 2
    )
    rows = np.arange(len(labels))

    start_at_regression(
        head,
        [plain, augmented],
        labels,
        train=rows[:160],
        held_out=rows[160:],
        seed=0,
    )

    for view in (plain, augmented):
        guesses = head.predict_on_batch(view[160:])
        assert np.mean(guesses.argmax(axis=1) == labels[160:]) > 0.85


def test_a_class_without_training_rows_is_no_error():
    features, labels = clouds(4)
    labels = np.where(labels == 2, 1, labels)

    head, *_ = started(4, labels=labels, features=features)

    guesses = head.predict_on_batch(features)
    assert np.isfinite(guesses).all()
    assert (guesses.argmax(axis=1) != 2).all()


def test_of_many_rows_every_class_is_drawn():
    rows = np.arange(100, 1100)
    labels = np.zeros(2000, int)
    labels[105:107] = 1

    drawn = draw_rows(rows, labels, 50, np.random.default_rng(0))

    assert abs(len(drawn) - 50) <= 1
    assert len(np.unique(drawn)) == len(drawn)
    assert set(drawn) <= set(rows)
    assert labels[drawn].sum() == 1


def test_a_rare_class_may_count_more():
    features, labels = clouds(2)
    labels = np.where(np.arange(len(labels)) % 10 == 0, 1, 0)  # says nothing of them
    plain, *_ = started(2, labels=labels, features=features)
    head = build_model.build_head(
        parse_training_spec({"head_start": "logistic"}), features.shape[1], 2
    )
    rows = np.arange(len(labels))

    start_at_regression(
        head,
        [features],
        labels,
        train=rows[:160],
        held_out=rows[160:],
        seed=0,
        class_weights=np.array([0.55, 5.0]),
    )

    before, after = (h.predict_on_batch(features)[:, 1].mean() for h in (plain, head))
    assert before < 0.2
    assert after > 2 * before


def test_a_head_with_hidden_layers_cannot_start_there():
    with pytest.raises(UserError, match="head_start"):
        parse_training_spec({"head_start": "logistic", "head": {"units": [8]}})
