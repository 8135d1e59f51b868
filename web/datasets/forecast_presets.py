"""What each preset is promised to reach and to take, as pages show it."""

import math
from dataclasses import dataclass
from typing import Any

from shared.presets import PRESETS
from web.ranges import Bar, Span, dig, draw_bar, read_figure, read_span

DISK_PARTS = ("pack", "features", "checkpoints")
STEP = 0.1  # the bars' line begins at a whole one of these


@dataclass(frozen=True)
class Preset:
    """The promise of one preset; None stands for what nobody could tell.

    Args:
        name: Of the preset.
        accuracy: On the test split.
        bar: The same as it is drawn, from `Promised.floor` to 100 %.
        seconds: That a training takes.
        memory_bytes: That it holds at its peak.
        disk_bytes: That it takes, in all.
        disk: The same by part.
        there_bytes: Of these, what the forecast has left on the disk.
        obstacle: Why it could not be trained where it was forecast.
        sentence: Where the promise comes from.
    """

    name: str
    accuracy: Span | None
    bar: Bar | None
    seconds: Span | None
    memory_bytes: float | None
    disk_bytes: float | None
    disk: dict[str, float]
    there_bytes: float
    obstacle: str | None
    sentence: str | None


@dataclass(frozen=True)
class Promised:
    """The promises of a forecast, and where their bars begin."""

    presets: list[Preset]
    floor: float


def name_worker(summary: dict[str, Any]) -> str | None:
    """Returns the worker on which the times were measured; None where none is told."""
    name = dig(summary, "worker", "name")
    return name if isinstance(name, str) else None


def make_presets(summary: dict[str, Any]) -> Promised | None:
    """Returns the presets in their own order; None where nothing is promised."""
    found = dig(summary, "presets")
    if not isinstance(found, dict):
        return None
    known = [name for name in PRESETS if isinstance(found.get(name), dict)]
    accuracies = {name: read_span(found[name].get("accuracy")) for name in known}
    floor = _find_floor([span for span in accuracies.values() if span])
    presets = [
        _make_preset(name, found[name], accuracies[name], floor) for name in known
    ]
    return Promised(presets, floor) if presets else None


def _find_floor(spans: list[Span]) -> float:
    lowest = min((span.low for span in spans), default=0.0)
    return max(0.0, min(1 - STEP, math.floor(lowest / STEP) * STEP))


def _make_preset(
    name: str, entry: dict[str, Any], accuracy: Span | None, floor: float
) -> Preset:
    disk = {
        part: size
        for part in DISK_PARTS
        if (size := read_figure(dig(entry, "disk_bytes", part))) is not None
    }
    sentence, obstacle = entry.get("sentence"), entry.get("obstacle")
    return Preset(
        name=name,
        accuracy=accuracy,
        bar=draw_bar(accuracy, floor) if accuracy else None,
        seconds=read_span(entry.get("seconds")),
        memory_bytes=read_figure(entry.get("memory_bytes")),
        disk_bytes=read_figure(dig(entry, "disk_bytes", "total")),
        disk=disk,
        there_bytes=read_figure(dig(entry, "disk_bytes", "there")) or 0.0,
        obstacle=obstacle if isinstance(obstacle, str) else None,
        sentence=sentence if isinstance(sentence, str) else None,
    )
