"""Neighbours are those of brute force, whatever odd features there are."""

import resource

import numpy as np

from worker.insight.doctor import neighbours
from worker.insight.doctor.neighbours import find_neighbours, reduce_features


def test_neighbours_are_those_of_comparing_all():
    reduced = reduce_features(
        np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32)
    )

    found = find_neighbours(reduced, 4)

    cosines = reduced @ reduced.T
    np.fill_diagonal(cosines, -np.inf)
    assert (found.rows == np.argsort(-cosines, axis=1)[:, :4]).all()
    assert np.allclose(
        found.similarities, np.take_along_axis(cosines, found.rows, axis=1), atol=1e-5
    )


def test_among_many_the_nearest_are_found_in_pieces():
    reduced = reduce_features(
        np.random.default_rng(0).normal(size=(777, 12)).astype(np.float32)
    )

    found = find_neighbours(reduced, 3)

    cosines = reduced @ reduced.T
    np.fill_diagonal(cosines, -np.inf)
    assert (found.rows == np.argsort(-cosines, axis=1)[:, :3]).all()


def test_what_is_no_number_or_never_changes_has_no_say():
    features = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    plain = reduce_features(features[:, :4])
    features[:, 4] = 7.0
    features[:, 5] = np.nan

    odd = reduce_features(features)

    assert np.isfinite(odd).all()
    assert np.allclose(odd @ odd.T, plain @ plain.T, atol=1e-4)


def test_constant_features_make_nobody_alike():
    reduced = reduce_features(np.ones((20, 5), np.float32))

    assert (find_neighbours(reduced, 3).similarities == 0).all()


def test_a_lone_picture_has_no_neighbours():
    found = find_neighbours(reduce_features(np.ones((1, 5), np.float32)), 3)

    assert found.rows.shape == (1, 0)


def test_of_too_many_pictures_as_many_are_drawn_to_compare_with(monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_REFERENCES", 40)
    features = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)

    found = find_neighbours(reduce_features(features), 5)

    assert len(np.unique(found.rows)) <= 40
    assert (found.rows != np.arange(100)[:, None]).all()


def test_20_000_pictures_fit_into_little_memory():
    features = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    found = find_neighbours(reduce_features(features), 20)

    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert found.rows.shape == (20_000, 20)
    assert after - before < 300_000  # kB
