"""Which base model suits a dataset: the leaderboard as pages show it."""

from dataclasses import dataclass
from typing import Any

from web.ranges import (
    Bar,
    Span,
    dig,
    draw_bar,
    list_documents,
    read_figure,
    read_interval,
)


@dataclass(frozen=True)
class BaseRow:
    """One base model on the leaderboard; None stands for what was not measured."""

    name: str
    span: Span | None
    bar: Bar | None
    seconds_per_thousand: float | None
    parameters: float | None
    image_size_px: float | None
    is_winner: bool


def make_base_models(summary: dict[str, Any]) -> list[BaseRow]:
    """Returns the base models that were compared, the most accurate first."""
    winner = dig(summary, "winner")
    rows = []
    for entry in list_documents(dig(summary, "base_models")):
        name = str(entry.get("name", ""))
        span = read_interval(entry.get("accuracy"), entry.get("interval"))
        rows.append(
            BaseRow(
                name=name,
                span=span,
                bar=draw_bar(span) if span else None,
                seconds_per_thousand=read_figure(entry.get("seconds_per_thousand")),
                parameters=read_figure(entry.get("parameters")),
                image_size_px=read_figure(entry.get("image_size_px")),
                is_winner=bool(entry.get("is_winner")) or name == winner,
            )
        )
    return sorted(rows, key=lambda row: -(row.span.middle if row.span else 0.0))


def list_left_out(summary: dict[str, Any]) -> list[str]:
    """Returns a sentence for each base model that could not be compared."""
    return [
        f"{entry.get('name', '')} could not be compared: {entry.get('reason', '')}"
        for entry in list_documents(dig(summary, "base_models_left_out"))
    ]


def tell_winner(base_models: list[BaseRow]) -> tuple[str, str] | None:
    """Returns the winner's name, and why it is that; None where nothing was compared.

    The winner is the fastest of those that no other is better than by more than chance:
    it may be a little less accurate than the first.
    """
    winner = next((row for row in base_models if row.is_winner), None)
    if winner is None or len(base_models) < 2:  # noqa: PLR2004 - one is no contest
        return None
    if winner is base_models[0]:
        return winner.name, f"{winner.name} told these pictures apart best."
    words = (
        f"{winner.name} told these pictures apart as well as {base_models[0].name}, "
        "within what chance explains, and is faster."
    )
    return winner.name, words
