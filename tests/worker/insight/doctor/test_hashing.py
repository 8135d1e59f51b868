"""Hashes that are near each other are found, all of them and no others."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.insight.doctor.made_pictures import crop, draw_texture, encode_again
from worker.insight.doctor.hashing import find_close_pairs, hash_pictures


def count_bits_apart(first, second):
    return int(np.bitwise_count(first ^ second))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.sets(st.integers(0, 63), max_size=12))),
    st.integers(0, 11),
)
def test_the_same_pairs_are_found_as_by_comparing_all(roots, changes, radius):
    derived = [
        roots[at % len(roots)] ^ sum(1 << bit for bit in bits) for at, bits in changes
    ]
    hashes = np.array(roots + derived, np.uint64)

    found = find_close_pairs(hashes, radius)

    everything = [
        (left, right)
        for left in range(len(hashes))
        for right in range(left + 1, len(hashes))
        if count_bits_apart(hashes[left], hashes[right]) <= radius
    ]
    assert [tuple(pair) for pair in found.tolist()] == everything


def test_copies_have_nearly_the_hash_of_their_original():
    picture = draw_texture(1)
    copies = [encode_again(picture), np.clip(picture * 1.1, 0, 255).astype(np.uint8)]
    greys = np.stack([one.mean(axis=2) for one in [picture, *copies]]).astype(np.uint8)

    original, encoded, brighter = hash_pictures(greys)

    assert count_bits_apart(original, encoded) <= 4
    assert count_bits_apart(original, brighter) <= 7


def test_different_pictures_have_different_hashes():
    greys = np.stack([draw_texture(s).mean(axis=2) for s in range(30)]).astype(np.uint8)

    pairs = find_close_pairs(hash_pictures(greys), 7)

    assert len(pairs) == 0


def test_thousands_of_plain_pictures_do_not_make_millions_of_pairs():
    hashes = np.zeros(20_000, np.uint64)

    assert len(find_close_pairs(hashes, 7)) == 0


def test_the_middle_of_an_original_has_the_hash_of_a_cropped_copy():
    picture = draw_texture(2)
    middle = picture[3:-3, 3:-3].mean(axis=2).astype(np.uint8)
    cropped = crop(picture).mean(axis=2).astype(np.uint8)

    assert count_bits_apart(hash_pictures([middle])[0], hash_pictures([cropped])[0]) < 8
