"""Forecasts, findings and promises as people read them in a terminal."""

from typing import Any

from cli.output import format_time, out, print_table, say
from shared.progress_words import say_duration, say_size

SHOWN_FILES = 3  # of one finding
SHOWN_CLASSES = 5  # of those that more pictures would help most


def print_forecast(found: dict[str, Any]) -> None:
    """Prints a forecast as the API gives it: sentences first, then tables."""
    forecast = found["forecast"]
    _tell(f"Version {found['version']}, forecast {format_time(found['created_at'])}.")
    _tell(_of(forecast, "difficulty").get("sentence"))
    _print_confusions(_of(forecast, "difficulty").get("confusions") or [])
    _tell(forecast.get("doubts"))
    _print_presets(forecast.get("presets") or {})
    if name := _of(forecast, "worker").get("name"):
        _tell(f"Times are those of worker {name}.")
    _print_curve(_of(forecast, "learning_curve"))
    _print_base_models(forecast.get("base_models") or [])
    _tell(_of(found, "compared").get("sentence"))
    for row in forecast.get("base_models_left_out") or []:
        _tell(f"{row['name']} could not be compared: {row['reason']}")
    counts = _of(forecast, "findings").get("counts") or {}
    total = sum(counts.values())
    if not total:
        _tell("Nothing odd was found in its pictures.")
        return
    words = ", ".join(f"{_say_kind(kind)}: {count}" for kind, count in counts.items())
    _tell(f"Findings: {total} ({words}). See `trainyard dataset doctor`.")


def print_findings(findings: list[dict[str, Any]]) -> None:
    """Prints findings, a line each, with the first files that each is about."""
    for finding in findings:
        mark = " (accepted)" if finding["accepted"] else ""
        _tell(f"{_say_kind(finding['kind'])}{mark}: {finding['sentence']}")
        names = [picture["name"] for picture in finding["pictures"][:SHOWN_FILES]]
        more = finding["pictures_total"] - len(names)
        shown = ", ".join(filter(None, names)) + (f" and {more} more" if more else "")
        _tell(f"  {finding['key']}  {shown}".rstrip())
    if not findings:
        say("Nothing of that was found.")


def print_promises(found: dict[str, Any]) -> None:
    """Prints how well promises were kept, then the promises."""
    for name, unit, factor in (("accuracy", "points", 100), ("minutes", "minutes", 1)):
        kept = found[name]
        if kept:
            _tell(
                f"{name.capitalize()}: {100 * kept['covered']:.0f} % of "
                f"{kept['count']} trainings ended within the promised range; half "
                f"were no more than {factor * kept['median_error']:.1f} {unit} off."
            )
    print_table(
        ["job", "dataset", "preset", "promised", "delivered", "time", "took"],
        [
            [
                row["job_id"],
                row["dataset_name"],
                row["preset"],
                _say_range([row[f"accuracy{end}"] for end in ("_low", "", "_high")]),
                _percent(row["delivered_accuracy"]),
                _say_times([row[f"seconds{end}"] for end in ("_low", "", "_high")]),
                _duration(row["delivered_seconds"]),
            ]
            for row in found["items"]
        ],
    )


def _print_confusions(pairs: list[dict[str, Any]]) -> None:
    if not pairs:
        return
    print_table(
        ["class", "taken for", "pictures", "of its class"],
        [
            [
                pair["truth"],
                pair["taken_for"],
                pair.get("count"),
                _percent(pair.get("share")),
            ]
            for pair in pairs
        ],
    )


def _print_presets(presets: dict[str, Any]) -> None:
    print_table(
        ["preset", "accuracy", "time", "memory", "disk"],
        [
            [
                name,
                _say_range(promise.get("accuracy")),
                _say_times(promise.get("seconds")),
                _size(promise.get("memory_bytes")),
                _size(_of(promise, "disk_bytes").get("total")),
            ]
            for name, promise in presets.items()
        ],
    )
    for name, promise in presets.items():
        if promise.get("obstacle"):
            _tell(f"{name} cannot be trained on that worker: {promise['obstacle']}.")


def _print_curve(curve: dict[str, Any]) -> None:
    _tell(curve.get("sentence"))
    for row in (curve.get("by_class") or [])[:SHOWN_CLASSES]:
        _tell(f"  {row['sentence']}")


def _print_base_models(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    print_table(
        ["base model", "accuracy", "seconds per 1,000 images", "parameters"],
        [
            [
                f"{row['name']} best" if row.get("is_winner") else row["name"],
                _percent(row.get("accuracy")),
                _one_decimal(row.get("seconds_per_thousand")),
                f"{row['parameters'] / 1e6:.1f} M" if row.get("parameters") else None,
            ]
            for row in rows
        ],
    )


def _say_range(values: list[float | None] | None) -> str | None:
    if not values or None in values:
        return None
    low, middle, high = values
    return f"{_percent(middle)} ({100 * (low or 0):.1f} to {100 * (high or 0):.1f})"


def _say_times(values: list[float | None] | None) -> str | None:
    if not values or None in values:
        return None
    low, middle, high = map(_duration, values)
    return f"{middle} ({low} to {high})"


def _say_kind(kind: str) -> str:
    return kind.replace("_", " ")


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"


def _one_decimal(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else say_duration(seconds)


def _size(size_bytes: float | None) -> str | None:
    return None if size_bytes is None else say_size(size_bytes)


def _of(document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _tell(words: str | None) -> None:
    if words:
        out.print(words, soft_wrap=True)
