"""Sweeps: many trainings that differ in the settings that somebody wants to compare.

A grid takes every combination of the values it lists; a random sweep draws each value
anew for every trial, from a list or from a range. The draws depend on the seed alone,
so that the same request makes the same jobs.
"""

import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import UserError

MOST_TRIALS = 2_000


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high`, drawn evenly or, with `log`, by their magnitude.

    Whole numbers where both ends are whole and `log` is off.
    """

    low: float
    high: float
    log: bool = False

    def draw(self, rng: random.Random) -> float:
        """Returns one value."""
        if self.log:
            exponent = rng.uniform(math.log(self.low), math.log(self.high))
            # Four digits say it: nobody compares 0.00031415926 with 0.00031415927.
            return float(f"{math.exp(exponent):.4g}")
        if isinstance(self.low, int) and isinstance(self.high, int):
            return rng.randint(self.low, self.high)
        return float(f"{rng.uniform(self.low, self.high):.4g}")


Choices = Sequence[Any] | Range


def expand(
    grid: Mapping[str, Sequence[Any]],
    drawn: Mapping[str, Choices] | None = None,
    *,
    trials: int = 1,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Returns the overrides of every training of a sweep, nested as a spec is.

    One that is the same as an earlier one is left out.

    Args:
        grid: Values by setting, as `frozen_learning_rate` or `head.dropout`; every
            combination of them is one training, or `trials` of them.
        drawn: What settings are drawn from, for each trial anew.
        trials: Draws of each combination.
        seed: Of the draws.

    Raises:
        UserError: Naming a setting without values, with an odd range, or named twice,
            or when there would be too many trainings.
    """
    drawn = drawn or {}
    for name, values in [*grid.items(), *drawn.items()]:
        _check(name, values)
    if both := grid.keys() & drawn.keys():
        raise UserError(
            f"`{min(both)}` is in the grid and drawn at random: choose one.",
            field=min(both),
        )
    _refuse_overlaps([*grid, *drawn])
    trials = trials if drawn else 1
    count = math.prod(len(values) for values in grid.values()) * max(1, trials)
    if not trials >= 1 or count > MOST_TRIALS:
        raise UserError(
            f"A sweep makes 1 to {MOST_TRIALS} trainings. Asked for: {count}.",
            field="trials",
        )
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    sweep: dict[str, dict[str, Any]] = {}
    for combination in itertools.product(*grid.values()):
        for _ in range(trials):
            flat = dict(zip(grid, combination, strict=True))
            flat |= {name: _draw(values, rng) for name, values in drawn.items()}
            nested = _nest(flat)
            sweep.setdefault(json.dumps(nested, sort_keys=True), nested)
    return list(sweep.values())


def _refuse_overlaps(names: list[str]) -> None:
    for name in names:
        for other in names:
            if other.startswith(f"{name}."):
                raise UserError(
                    f"`{other}` is a part of `{name}`: vary one of them.", field=other
                )


def _check(name: str, values: Choices) -> None:
    if not isinstance(values, Range):
        if not values:
            raise UserError(f"`{name}` names no values.", field=name)
        return
    if not values.low < values.high or (values.log and values.low <= 0):
        above = " above 0" if values.log else ""
        raise UserError(
            f"`{name}` must be drawn from a lower to a higher number{above}. "
            f"Received: {values.low:g} to {values.high:g}.",
            field=name,
        )


def _draw(values: Choices, rng: random.Random) -> Any:
    return values.draw(rng) if isinstance(values, Range) else rng.choice(values)


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `{"head.dropout": 0.5}` as `{"head": {"dropout": 0.5}}`."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *outer, last = name.split(".")
        place = nested
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = value
    return nested
