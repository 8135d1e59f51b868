"""Pictures that look alike are found, and found as comparing all with all would."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.worker.ingest.uploads import encode, pixels
from tests.worker.insight.doctor.made_pictures import crop, draw_texture, encode_again
from worker.ingest import picture_hash
from worker.ingest.picture_hash import (
    find_clusters,
    find_pairs,
    hash_file,
    hash_picture,
)


def compare_all(hashes, most):
    """The clusters, by comparing each with every other."""
    numbers = list(range(len(hashes)))
    for at, one in enumerate(hashes):
        for other in range(at):
            if int(one ^ hashes[other]).bit_count() <= most:
                old, new = numbers[at], numbers[other]
                numbers = [new if number == old else number for number in numbers]
    return numbers


def same_partition(one, other):
    pairs = set(zip(list(one), list(other), strict=True))
    return len(pairs) == len(set(one)) == len(set(other))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.lists(st.lists(st.integers(0, 63), max_size=3), min_size=40, max_size=40),
    st.integers(0, 8),
)
def test_clusters_are_those_of_comparing_all_with_all(seeds, flips, most):
    bases = np.random.default_rng(0).integers(0, 2**64, 6, dtype=np.uint64)
    hashes = np.array([bases[seed] for seed in seeds], np.uint64)
    for at, bits in enumerate(flips[: len(hashes)]):
        for bit in bits:
            hashes[at] ^= np.uint64(1 << bit)

    found = find_clusters(hashes, most)

    assert same_partition(found.tolist(), compare_all(hashes, most))


@pytest.mark.parametrize("bits", [20, 64])
def test_many_in_few_bits_are_found_all_the_same(bits):
    """So many are equal in each band that they are told apart by the others."""
    hashes = np.random.default_rng(1).integers(0, 2**bits - 1, 1500, dtype=np.uint64)

    found = find_clusters(hashes, 2)

    assert same_partition(found.tolist(), compare_all(hashes.tolist(), 2))


def test_a_hundred_thousand_take_seconds():
    hashes = np.random.default_rng(2).integers(0, 2**64, 100_000, dtype=np.uint64)
    hashes[50_000:50_100] = hashes[:100] ^ np.uint64(0b101)
    began = time.process_time()

    found = find_clusters(hashes)

    assert time.process_time() - began < 20
    assert (found[50_000:50_100] == found[:100]).all()
    assert len(set(found.tolist())) == 99_900


def test_none_are_no_clusters():
    assert find_clusters(np.zeros(0, np.uint64)).tolist() == []


def test_another_size_and_compression_look_alike(tmp_path):
    scene = Image.fromarray(pixels(3, 8, 8)).resize((256, 256))
    for name, picture in (("a", scene), ("b", scene.resize((180, 200)))):
        (tmp_path / name).write_bytes(encode(picture, "JPEG", quality=60))
    other = Image.fromarray(pixels(4, 8, 8)).resize((256, 256))
    (tmp_path / "c").write_bytes(encode(other, "PNG"))

    one, same, another = (hash_file(str(tmp_path / name)) for name in "abc")

    assert int(one ^ same).bit_count() <= 4
    assert int(one ^ another).bit_count() > 10


def count_bits_apart(first, second):
    return int(np.bitwise_count(np.uint64(first) ^ np.uint64(second)))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.sets(st.integers(0, 63), max_size=12))),
    st.integers(0, 11),
)
def test_the_same_pairs_are_found_as_by_comparing_all(roots, changes, most):
    derived = [
        roots[at % len(roots)] ^ sum(1 << bit for bit in bits) for at, bits in changes
    ]
    hashes = np.array((roots + derived)[:12], np.uint64)

    found = find_pairs(hashes, most)

    everything = [
        (left, right)
        for left in range(len(hashes))
        for right in range(left + 1, len(hashes))
        if count_bits_apart(hashes[left], hashes[right]) <= most
    ]
    assert [tuple(pair) for pair in found.tolist()] == everything


def test_thousands_of_plain_pictures_do_not_make_millions_of_pairs():
    hashes = np.zeros(20_000, np.uint64)
    hashes[10_000:] = 1

    pairs = find_pairs(hashes, 7)

    assert len(pairs) < 60_000
    assert {0, 10_000, 19_999} <= set(pairs.ravel().tolist())


def hash_pixels(picture):
    return hash_picture(Image.fromarray(picture).convert("L"))


def test_copies_have_nearly_the_hash_of_their_original():
    picture = draw_texture(1)
    brighter = np.clip(picture * 1.1, 0, 255).astype(np.uint8)

    original = hash_pixels(picture)

    assert count_bits_apart(original, hash_pixels(encode_again(picture))) <= 4
    assert count_bits_apart(original, hash_pixels(brighter)) <= 7


def test_different_pictures_have_different_hashes():
    hashes = np.array([hash_pixels(draw_texture(s)) for s in range(30)], np.uint64)

    assert len(find_pairs(hashes, 7)) == 0


def test_the_middle_of_an_original_has_the_hash_of_a_cropped_copy():
    picture = draw_texture(2)
    middle = np.ascontiguousarray(picture[3:-3, 3:-3])

    assert count_bits_apart(hash_pixels(middle), hash_pixels(crop(picture))) < 8


def test_of_too_many_pairs_the_nearest_are_kept(monkeypatch):
    monkeypatch.setattr(picture_hash, "_PAIRS_KEPT", 20)
    # Each differs from the next in one bit more than the one before.
    chain = [(1 << bits) - 1 for bits in range(60)]
    hashes = np.array([*chain, 2**63, 2**63 + 1], np.uint64)

    found = find_pairs(hashes, 7)

    apart = [count_bits_apart(hashes[one], hashes[two]) for one, two in found]
    assert len(found) == 20
    assert set(apart) == {1}
