"""What the submit form tells of what was chosen: promises, better bases, warnings."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from shared.errors import UserError
from shared.forecast_store import Gist
from shared.job_submit_store import DEFAULT_QUEUE
from shared.presets import PRESETS
from shared.tables import Dataset
from web.datasets.forecast_bases import make_base_models, tell_winner
from web.datasets.forecast_presets import Preset, make_presets, name_worker
from web.installation import Installation
from web.jobs.form import Filled
from web.jobs.form_request import build_request
from web.jobs.shortage import Wanted, find_shortages, list_gists
from web.jobs.submit import Recipe
from web.jobs.submit_body import build_recipes

MOST_SHOWN = 20  # datasets whose promises are listed


@dataclass(frozen=True)
class ExpectedRow:
    """What is promised of one chosen dataset; no presets without a forecast."""

    dataset_id: int
    name: str
    presets: dict[str, Preset]
    timed_on: str | None  # the worker that timed the minutes, where that is told


@dataclass(frozen=True)
class Offer:
    """A base model that suits some chosen datasets better than those chosen.

    Args:
        base_model: Its name.
        sentence: Why, for the first dataset.
        datasets: Names of the datasets.
    """

    base_model: str
    sentence: str
    datasets: list[str]


def make_expected(here: Installation, filled: Filled) -> dict[str, Any]:
    """Returns the values of what the form tells; changes nothing that was chosen."""
    rows: list[ExpectedRow] = []
    offers: list[Offer] = []
    bases: set[str] = set()
    if filled.datasets:
        with here.database.reading() as session:
            found = list_gists(session, filled.datasets)
            rows, bases = _list_rows(found), _list_bases(found)
            offers = _list_offers(found, filled)
    return {
        "rows": rows[:MOST_SHOWN],
        "more": max(0, len(rows) - MOST_SHOWN),
        "presets": [(name, name in filled.presets) for name in PRESETS],
        "bases": sorted(bases),
        "offers": offers,
        "warnings": _warn(here, filled) if any(row.presets for row in rows) else [],
    }


def _list_rows(found: list[tuple[Dataset, Gist | None]]) -> list[ExpectedRow]:
    rows = []
    for dataset, gist in found:
        promised = make_presets({"presets": gist.presets}) if gist else None
        presets = {one.name: one for one in promised.presets} if promised else {}
        timed_on = name_worker({"worker": gist.worker}) if gist else None
        rows.append(ExpectedRow(dataset.id, dataset.name, presets, timed_on))
    return rows


def _list_bases(found: list[tuple[Dataset, Gist | None]]) -> set[str]:
    return {
        gist.base_model
        for _, gist in found
        if gist and isinstance(gist.base_model, str)
    }


def _list_offers(
    found: list[tuple[Dataset, Gist | None]], filled: Filled
) -> list[Offer]:
    offers: dict[str, Offer] = {}
    for dataset, gist in found:
        if gist is None:
            continue
        told = tell_winner(
            make_base_models({"base_models": gist.base_models, "winner": gist.winner})
        )
        if told and told[0] not in filled.base_models:
            offer = offers.setdefault(told[0], Offer(*told, datasets=[]))
            offer.datasets.append(dataset.name)
    return list(offers.values())


def _warn(here: Installation, filled: Filled) -> list[str]:
    recipes = _build_recipes(filled)
    if not recipes:
        return []
    ways = [(recipe.preset, recipe.spec) for recipe in recipes]
    return find_shortages(
        here, Wanted(filled.datasets, ways, filled.wishes.get("queue") or DEFAULT_QUEUE)
    )


def _build_recipes(filled: Filled) -> list[Recipe]:
    """Returns what would be trained; nothing while the form says what is wrong."""
    try:
        return build_recipes(build_request(filled))
    except (UserError, ValidationError):
        return []
