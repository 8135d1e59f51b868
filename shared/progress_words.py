"""How far something is, in words: the same on pages and on the command line."""

KIBI = 1024
MINUTE, HOUR, DAY = 60, 3600, 86400
BYTES = "bytes"  # the one unit that is shown in larger ones
FEW = 10  # a rate below it is shown with a decimal
SLOW = 1  # a rate below it says less than the time that is left


def say_progress(
    done: float, total: float, unit: str | None, eta_seconds: float | None
) -> str:
    """`1,200 of 5,000 images · 95 images/s · about 40 s left`; empty before all that.

    Args:
        done: Finished parts of the phase.
        total: All of them; 0 while nobody knows, and then it is only said what is done.
        unit: What is counted.
        eta_seconds: Seconds that are left, if that can be told.
    """
    if not total:
        return say_amount(done, unit) if done else ""
    words = [f"{_say_number(done, unit)} of {say_amount(total, unit)}"]
    rate = find_rate(done, total, eta_seconds)
    if rate is not None and rate >= SLOW:
        words.append(say_rate(rate, unit))
    if eta_seconds is not None:
        words.append(f"about {say_duration(eta_seconds)} left")
    return " · ".join(words)


def find_rate(done: float, total: float, eta_seconds: float | None) -> float | None:
    """Returns the parts a second from which the time that is left was computed."""
    return (total - done) / eta_seconds if total and eta_seconds else None


def say_rate(rate: float, unit: str | None) -> str:
    """`95 images/s`, `512.0 KiB/s`."""
    return f"{say_amount(rate, unit)}/s"


def say_amount(value: float, unit: str | None) -> str:
    """`5,000 images`, `3.0 MiB`."""
    words = _say_number(value, unit)
    return words if unit in (BYTES, None) else f"{words} {unit}"


def say_size(size_bytes: float) -> str:
    """`1536` -> `1.5 KiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < KIBI:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= KIBI
    return f"{value:.1f} TiB"


def say_duration(seconds: float) -> str:
    """`200` -> `3 min 20 s`."""
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def _say_number(value: float, unit: str | None) -> str:
    if unit == BYTES:
        return say_size(value)
    return f"{value:,.0f}" if value >= FEW or value == int(value) else f"{value:.1f}"
