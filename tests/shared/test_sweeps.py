"""Sweeps: which trainings a grid and random draws make, and how they are typed."""

import math

import pytest

from shared.assignments import parse_grid, parse_random
from shared.errors import UserError
from shared.sweeps import Range, expand


def test_a_grid_makes_every_combination():
    sweep = expand({"seed": [1, 2], "head.dropout": [0.1, 0.5], "head.units": [[64]]})

    assert sweep == [
        {"seed": seed, "head": {"dropout": dropout, "units": [64]}}
        for seed in (1, 2)
        for dropout in (0.1, 0.5)
    ]


def test_draws_come_from_their_ranges_and_depend_on_the_seed_alone():
    drawn = {
        "rate": Range(1e-5, 1e-2, log=True),
        "epochs": Range(1, 3),
        "dropout": Range(0.0, 0.5),
        "optimizer": ["adam", "sgd"],
    }

    sweep = expand({}, drawn, trials=200, seed=4)

    assert sweep == expand({}, drawn, trials=200, seed=4)
    assert sweep != expand({}, drawn, trials=200, seed=5)
    assert len(sweep) == 200
    assert all(1e-5 <= s["rate"] <= 1e-2 for s in sweep)
    # By magnitude: each of the three decades gets about a third.
    decades = [math.floor(math.log10(s["rate"])) for s in sweep]
    assert all(40 < decades.count(d) < 95 for d in (-5, -4, -3))
    assert {s["epochs"] for s in sweep} == {1, 2, 3}
    assert all(0 <= s["dropout"] <= 0.5 for s in sweep)
    assert {s["optimizer"] for s in sweep} == {"adam", "sgd"}


def test_a_grid_and_draws_are_combined():
    sweep = expand({"seed": [1, 2]}, {"rate": Range(0.1, 0.9)}, trials=3)

    assert [s["seed"] for s in sweep] == [1, 1, 1, 2, 2, 2]
    assert len({s["rate"] for s in sweep}) == 6


def test_the_same_draw_makes_one_training():
    assert len(expand({}, {"optimizer": ["adam", "sgd"]}, trials=50)) == 2
    assert expand({"seed": [1, 1]}) == [{"seed": 1}]
    assert len(expand({"seed": [1, 2]}, trials=1500)) == 2, "nothing is drawn"


@pytest.mark.parametrize(
    ("grid", "drawn", "words"),
    [
        ({"seed": []}, {}, "`seed` names no values"),
        ({"seed": [1]}, {"seed": [2]}, "in the grid and drawn"),
        ({}, {"rate": Range(2, 1)}, "from a lower to a higher number"),
        ({}, {"rate": Range(0, 1, log=True)}, "number above 0"),
        ({"seed": range(3000)}, {}, "1 to 2000 trainings. Asked for: 3000"),
        ({"head": [{}], "head.dropout": [1]}, {}, "`head.dropout` is a part of `head`"),
    ],
)
def test_sweeps_that_mean_nothing_are_refused_by_name(grid, drawn, words):
    with pytest.raises(UserError, match=words):
        expand(grid, drawn)


def test_values_are_read_as_they_are_typed():
    assert parse_grid(["seed=1, 2", "head.units=[[64],[8,8]]", "weights=a,b"]) == {
        "seed": [1, 2],
        "head.units": [[64], [8, 8]],
        "weights": ["a", "b"],
    }
    assert parse_random(["rate=1e-5:1e-3:log", "epochs=1:9", "fit=a,b"]) == {
        "rate": {"low": 1e-5, "high": 1e-3, "log": True},
        "epochs": {"low": 1, "high": 9, "log": False},
        "fit": ["a", "b"],
    }


def test_an_option_given_twice_is_refused():
    with pytest.raises(UserError, match="`--grid seed` is there twice"):
        parse_grid(["seed=1", "seed=2"])


@pytest.mark.parametrize("text", ["rate", "=1:2", "rate=", "rate=a:b", "rate=1:2:lin"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(UserError, match="for example"):
        parse_random([text])
