"""The sweep in the form: rows of a setting and its values, as they are typed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.assignments import is_range, read_list, read_range
from shared.errors import UserError
from web.api.submit_schemas import SweepRequest
from web.jobs.submit_body import expand_sweep

EACH, DRAWN = "each", "drawn"
HOW = ((EACH, "every value of"), (DRAWN, "drawn from"))
FEWEST_ROWS = 3
MOST_ROWS = 60  # more than there are settings
_NAME = re.compile(r"sweep\.([0-9]{1,2})\.(setting|how|values)")


@dataclass(frozen=True)
class SweepRow:
    """One row: `setting` takes `every value of`, or is `drawn from`, `values`."""

    setting: str = ""
    how: str = EACH
    values: str = ""


@dataclass(frozen=True)
class Sweep:
    """What the form holds of a sweep, by the number of its row."""

    rows: dict[int, SweepRow] = field(default_factory=dict)
    trials: str = ""
    seed: str = ""

    @property
    def used(self) -> bool:
        """Whether something is filled in."""
        return bool(self.rows or self.trials or self.seed)

    def list_rows(self) -> list[SweepRow]:
        """Returns the rows to show: those filled in, and an empty one at least."""
        last = max(self.rows, default=-1)
        shown = min(MOST_ROWS, max(FEWEST_ROWS, last + 2))
        return [self.rows.get(place, SweepRow()) for place in range(shown)]

    def find_row(self, setting: str) -> int | None:
        """Returns the number of the row that varies `setting`, or None."""
        rows = self.rows.items()
        return next((place for place, row in rows if row.setting == setting), None)


def read_sweep(values: Mapping[str, str]) -> Sweep:
    """Returns what was sent of a sweep; raises nothing, whatever it is."""
    rows: dict[int, dict[str, str]] = {}
    for key, value in values.items():
        found = _NAME.fullmatch(key)
        if found and int(found[1]) < MOST_ROWS:
            rows.setdefault(int(found[1]), {})[found[2]] = value.strip()
    return Sweep(
        rows={
            place: _make_row(row)
            for place, row in sorted(rows.items())
            if row.get("setting") or row.get("values")
        },
        trials=values.get("sweep.trials", "").strip(),
        seed=values.get("sweep.seed", "").strip(),
    )


def build_sweep(filled: Sweep) -> SweepRequest | None:
    """Returns the sweep as the API takes it; None where none is asked for.

    Raises:
        UserError: For a row without a setting, one that is there twice, or a range
            that is none.
        ValidationError: For what the API would not take either.
    """
    if not filled.rows:
        return None
    grid: dict[str, Any] = {}
    drawn: dict[str, Any] = {}
    for place, row in filled.rows.items():
        _check(row, place, {*grid, *drawn})
        if is_range(row.values):
            drawn[row.setting] = read_range(row.setting, row.values)
        else:
            values = read_list(row.values) if row.values else []
            (drawn if row.how == DRAWN else grid)[row.setting] = values
    numbers = {"trials": filled.trials, "seed": filled.seed}
    given = {name: text for name, text in numbers.items() if text}
    return SweepRequest.model_validate({"grid": grid, "random": drawn, **given})


def count_trainings(filled: Sweep) -> int:
    """Returns how many trainings a sweep makes of one preset and base model.

    Raises:
        UserError: As `build_sweep`, and for too many.
        ValidationError: As `build_sweep`.
    """
    sweep = build_sweep(filled)
    return len(expand_sweep(sweep)) if sweep else 1


def _make_row(sent: dict[str, str]) -> SweepRow:
    how = sent.get("how", EACH)
    if is_range(sent.get("values", "")) or how not in {EACH, DRAWN}:
        how = DRAWN  # nobody can try every value of a range
    return SweepRow(sent.get("setting", ""), how, sent.get("values", ""))


def _check(row: SweepRow, place: int, before: set[str]) -> None:
    if not row.setting:
        raise UserError(
            f"Choose the setting that takes these values: {row.values}.",
            field=f"sweep.{place}",
        )
    if row.setting in before:
        raise UserError(
            f"`{row.setting}` is there twice: name all its values in one row.",
            field=f"sweep.{place}",
        )
