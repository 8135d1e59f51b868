"""Draws by counter: the published numbers, and a function of the key alone."""

import numpy as np
import pytest

from worker.training.counted_draws import philox, uniform

ALL_ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "known"),
    [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (
            [ALL_ONES] * 4,
            (ALL_ONES, ALL_ONES),
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_it_gives_the_known_answers_of_random123(counter, key, known):
    words = philox(np.array(counter, np.uint64)[:, None], key=key)

    assert words[:, 0].tolist() == known


def test_a_number_s_draws_do_not_depend_on_its_company():
    where = {"seed": 2**40 + 1, "epoch": 3, "stream": 0, "count": 7}

    together = uniform(np.arange(1000), **where)
    alone = uniform(np.array([77]), **where)
    fewer = uniform(np.arange(1000), **where | {"count": 3})

    assert np.array_equal(together[:, 77], alone[:, 0])
    assert np.array_equal(together[:3], fewer)


def test_every_part_of_the_key_counts():
    where = {"seed": 5, "epoch": 3, "stream": 0, "count": 1}
    other_seed_high = where | {"seed": 5 + 2**32}
    others = [where | {"epoch": 4}, where | {"stream": 1}, where | {"seed": 6}]

    drawn = [
        uniform(np.arange(50), **one).tobytes()
        for one in (where, other_seed_high, *others)
    ]

    assert len(set(drawn)) == 5


def test_draws_are_even_and_not_correlated():
    drawn = uniform(np.arange(100_000), seed=1, epoch=0, stream=0, count=4)

    counts = np.stack([np.histogram(row, 10, (0, 1))[0] for row in drawn])
    expected = 100_000 / 10
    chi_squared = ((counts - expected) ** 2 / expected).sum(axis=1)
    correlations = np.corrcoef(drawn) - np.eye(4)
    assert (drawn >= 0).all()
    assert (drawn < 1).all()
    assert (chi_squared < 27.9).all()  # one in a thousand, nine degrees of freedom
    assert np.abs(correlations).max() < 0.015
    assert abs(np.corrcoef(drawn[0][:-1], drawn[0][1:])[0, 1]) < 0.015
