"""Which base models a forecast may compare now, and how many of those it has."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared.base_models import list_base_models
from shared.forecast_base_models import DEFAULT
from web.ranges import dig, list_documents
from web.workers.base_models import find_availability, list_told

_TO_BE_HAD = frozenset({"ready", "partly", "download"})


@dataclass(frozen=True)
class Offered:
    """A base model that a worker could compare with the default one.

    Args:
        name: Its name.
        family: Its family's name.
        parameters: Of it without its top.
        words: Whether its weights are there, or would be fetched.
    """

    name: str
    family: str
    parameters: int
    words: str


@dataclass(frozen=True)
class Compared:
    """How far a forecast has looked for the best base model.

    Args:
        compared: How many base models it compares.
        available: How many could be had by now, those among them.
        sentence: For people; None where none is left.
    """

    compared: int
    available: int
    sentence: str | None


def list_offered(session: Session) -> list[Offered]:
    """Returns the base models that may be named beside the default one.

    Those whose weights at least one training worker has or would fetch.
    """
    told = list_told(session)
    found = [(model, find_availability(model, told)) for model in list_base_models()]
    return [
        Offered(model.name, model.family.name, model.parameters, weights.words)
        for model, weights in found
        if weights.state in _TO_BE_HAD and model.name != DEFAULT
    ]


def count_compared(offered: list[Offered], summary: dict[str, Any]) -> Compared:
    """Returns how many of the available base models a forecast compares.

    Args:
        offered: From `list_offered`.
        summary: Of the forecast.
    """
    compared = {
        str(entry.get("name")) for entry in list_documents(dig(summary, "base_models"))
    }
    available = compared | {DEFAULT} | {one.name for one in offered}
    sentence = None
    if compared and compared < available:
        were = "was" if len(compared) == 1 else "were"
        sentence = (
            f"{len(compared)} of {len(available)} available base models {were} "
            "compared."
        )
    return Compared(len(compared), len(available), sentence)
