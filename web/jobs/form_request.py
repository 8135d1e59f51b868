"""What the form was sent, as the API would take it; and errors beside their fields."""

import itertools
from typing import Any

from pydantic import ValidationError

from shared.errors import UserError
from web.api.problems import list_faults
from web.api.submit_schemas import JobsRequest
from web.jobs.form import PREFIX, Filled, build_overrides
from web.jobs.submit import refuse_nothing
from web.jobs.sweep_form import build_sweep

UTC = "+00:00"  # what a browser without scripts cannot tell us otherwise
# The form's names of fields that the API calls otherwise.
PLACES = {"name": "model_name", "trials": "sweep.trials"}
PLACED = {"datasets", "model_name", "sweep.trials", "sweep.seed"}


class NotValidError(UserError):
    """Fields that the API would not take either (422)."""

    status = 422

    def __init__(self, error: ValidationError, *, within: str = "") -> None:
        self.faults = [(within + place, told) for place, told in list_faults(error)]
        words = " ".join(sentence for _, sentence in self.faults)
        super().__init__(words, field=self.faults[0][0] or None)


def build_request(filled: Filled) -> JobsRequest:
    """Returns the form as the request that the API takes.

    Raises:
        UserError: Naming the first field that cannot be read.
        NotValidError: Naming every field that the API would not take.
    """
    trainings = list(itertools.product(filled.presets, filled.base_models))
    refuse_nothing(filled.datasets, trainings)
    overrides = build_overrides(filled.values)
    try:
        sweep = build_sweep(filled.sweep)
    except ValidationError as error:
        raise NotValidError(error, within="sweep.") from error
    specs = [
        {"preset": preset, "overrides": {**overrides, "base_model": base}}
        | ({"sweep": sweep} if sweep else {})
        for preset, base in trainings
    ]
    asked = {"datasets": filled.datasets, "specs": specs, **_list_wishes(filled)}
    try:
        return JobsRequest.model_validate(asked)
    except ValidationError as error:
        raise NotValidError(error) from error


def place_errors(error: UserError, filled: Filled) -> dict[str, str]:
    """Returns sentences by the form's own field, those of `sweep.0` for a row.

    What belongs to no field is left out: the page says it above all of them.
    """
    faults = getattr(error, "faults", [(error.field or "", str(error))])
    placed: dict[str, str] = {}
    for field, sentence in faults:
        place = _find_place(field, filled)
        if place:
            placed[place] = (
                f"{placed[place]} {sentence}" if place in placed else sentence
            )
    return placed


def _list_wishes(filled: Filled) -> dict[str, Any]:
    """Returns the name, when and where, without what was left empty."""
    wishes = {"model_name": filled.model_name, **filled.wishes}
    given: dict[str, Any] = {name: text for name, text in wishes.items() if text}
    zone = given.pop("zone", UTC)
    if "not_before" in given:
        given["not_before"] += zone
    return given


def _find_place(field: str, filled: Filled) -> str | None:
    field = PLACES.get(field, field)
    if field in filled.wishes or field in PLACED:
        return field
    if field == "specs":
        return "sweep" if filled.sweep.used else None
    name = field
    for outer in ("sweep.", "grid.", "random."):
        name = name.removeprefix(outer)
    while name:  # `head.units.0` is in the field of `head.units`
        row = filled.sweep.find_row(name)
        if row is not None:
            return f"sweep.{row}"
        if filled.values.get(name):
            return f"{PREFIX}{name}"
        name = name.rpartition(".")[0]
    return field if field.startswith("sweep.") else None
