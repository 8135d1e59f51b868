"""Flipped labels are found, right ones are left alone, and odd inputs do no harm."""

import tracemalloc

import numpy as np
import pytest

from tests.worker.insight.doctor.made_pictures import make_pictures, make_textures
from worker.insight.cross_validation import cross_validate
from worker.insight.doctor import label_errors
from worker.insight.doctor.examination import examine
from worker.insight.doctor.label_errors import find_suspects, mix_opinions
from worker.insight.doctor.neighbours import (
    Neighbours,
    find_neighbours,
    reduce_features,
)
from worker.insight.probe import Recipe


def make_clusters(each=60, classes=3, apart=3.0):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), each)
    centres = random.normal(0, apart, (classes, 12))
    features = centres[labels] + random.normal(0, 1, (len(labels), 12))
    return features.astype(np.float32), labels


def judge(features, labels, groups=None):
    reduced = reduce_features(features)
    groups = np.arange(len(labels)) if groups is None else groups
    classes = int(labels.max()) + 1
    probed = cross_validate(
        reduced * np.sqrt(reduced.shape[1]).astype(np.float32),
        labels,
        np.arange(len(labels)),
        classes=classes,
        groups=groups,
        recipe=Recipe(0.01),
    ).probabilities
    return mix_opinions(probed, find_neighbours(reduced, 15), labels, groups)


def test_flipped_labels_are_suspected_with_the_right_suggestion():
    features, truths = make_clusters()
    labels = truths.copy()
    flipped = np.arange(0, 180, 18)
    labels[flipped] = (labels[flipped] + 1) % 3

    found = find_suspects(judge(features, labels), labels)

    assert set(found.rows.tolist()) == set(flipped.tolist())
    assert (found.suggested == truths[found.rows]).all()
    assert (np.diff(found.scores) <= 0).all()


def test_right_labels_are_left_alone():
    features, labels = make_clusters()

    assert len(find_suspects(judge(features, labels), labels).rows) == 0


def test_the_copy_of_a_wrongly_labelled_picture_does_not_vouch_for_it():
    features, truths = make_clusters()
    labels = truths.copy()
    features[:8] = features[0]
    labels[:8] = 1
    groups = np.arange(len(labels))
    groups[:8] = 0

    with_copies = judge(features, labels)
    without = judge(features, labels, groups)

    assert without[0, 1] < with_copies[0, 1]
    assert set(range(8)) <= set(find_suspects(without, labels).rows.tolist())


@pytest.mark.parametrize("classes", [1, 2])
def test_one_class_or_two_pictures_are_no_reason_to_fail(classes):
    labels = np.arange(2) % classes
    pictures = make_pictures(make_textures(2), labels=labels)

    assert [f for f in examine(pictures) if f.kind == "suspect_label"] == []


def test_a_class_with_a_single_picture_is_believed():
    features, labels = make_clusters(each=30)
    labels[0] = 3

    found = find_suspects(judge(features, labels), labels)

    assert 0 not in found.rows


def test_probabilities_that_are_no_numbers_count_as_unknown():
    features, labels = make_clusters(each=30)
    reduced = reduce_features(features)
    probed = np.full((90, 3), np.nan)

    likely = mix_opinions(probed, find_neighbours(reduced, 9), labels, np.arange(90))

    assert np.allclose(likely.sum(axis=1), 1)
    assert (likely.argmax(axis=1) == labels).mean() > 0.9


def test_a_thousand_classes_fit_into_little_memory():
    count, classes = 8_000, 1_000
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, count)
    probed = random.random((count, classes), np.float32)
    near = Neighbours(
        random.integers(0, count, (count, 20)).astype(np.int32),
        random.random((count, 20), np.float32),
    )

    tracemalloc.start()
    likely = mix_opinions(probed, near, labels, np.arange(count))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert likely.dtype == np.float32
    assert np.allclose(likely.sum(axis=1), 1, atol=1e-4)
    assert peak < likely.nbytes + 80_000_000


def test_pictures_in_blocks_get_what_they_get_together(monkeypatch):
    features, labels = make_clusters(each=30)
    together = judge(features, labels)
    monkeypatch.setattr(label_errors, "_MOST_AT_ONCE", 21)

    assert np.allclose(judge(features, labels), together, atol=1e-5)


def test_the_sentence_names_the_file_and_says_why():
    features, truths = make_clusters(each=20, classes=2, apart=6.0)
    labels = truths.copy()
    labels[5] = 1
    pictures = make_pictures(make_textures(40), labels=labels, features=features)

    (finding,) = [f for f in examine(pictures) if f.kind == "suspect_label"]

    assert finding.sentence.startswith(
        "5.jpg is labelled class1, but looks like class0 ("
    )
    assert finding.sentence.endswith(" %).")
    assert (finding.action, finding.suggested_label) == ("relabel", "class0")
