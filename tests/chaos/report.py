"""What a campaign found, as a table for a terminal and as `docs/reliability.md`."""

import os
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.matrix import ROWS

TEMPLATE = Path(__file__).with_name("reliability.md")


def describe(outcome):
    """Returns the outcome as text for a terminal."""
    lines = [
        f"row  injected  passed  {'median':>8}  {'longest':>8}  what",
    ]
    for number, row in sorted(ROWS.items()):
        counts = outcome["by_row"][number]
        seconds = _seconds_of(outcome, number)
        lines.append(
            f"{number:3}  {counts['injected']:8}  {counts['passed']:6}  "
            f"{seconds[0]:>8}  {seconds[1]:>8}  {row.title}"
        )
    total = (
        f"seed {outcome['seed']}: {outcome['faults']} faults, "
        f"{outcome['engine_faults']} of them against the real engine; "
        f"{outcome['promised']} jobs promised, {outcome['archives']} archives, "
        f"{outcome['lost']} lost, {outcome['doubled']} doubled, "
        f"{outcome['violations']} violations."
    )
    lines += ["", total]
    if "mutants" in outcome:
        caught, all_of_them = outcome["mutants_caught"], len(outcome["mutants"])
        lines.append(f"{caught} of {all_of_them} removed guards were missed.")
    for name in (
        "violated",
        "broken",
        "errors",
        "skipped",
        "not_drawn",
        "mutants_missed",
        "control",
    ):
        if outcome.get(name):
            lines.append(f"{name}: {outcome[name]}")
    lines.append("passed" if outcome["passed"] else "NOT PASSED")
    return "\n".join(lines)


def write(outcome, path):
    """Writes the report of a campaign to `path`."""
    values = {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "summary": _summarise(outcome),
        "broken": "\n".join(_broken_lines(outcome)),
        "rows": "\n".join(_row_line(outcome, row) for _, row in sorted(ROWS.items())),
        "mutants": "\n".join(_mutant_lines(outcome)),
    }
    text = TEMPLATE.read_text()
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", str(value))
    path.write_text(text)


def _summarise(outcome):
    minutes = outcome["seconds"] / 60
    return (
        f"Seed **{outcome['seed']}**: **{outcome['faults']}** faults in "
        f"{minutes:.0f} minutes, {outcome['engine_faults']} of them against the real "
        f"engine. The client had {outcome['promised']} promises and downloaded "
        f"{outcome['archives']} archives: **{outcome['lost']} jobs lost, "
        f"{outcome['doubled']} models published twice, {outcome['violations']} "
        "violations** of the invariants, "
        f"{len(outcome['broken'])} faults after which a row's own expectation did not "
        f"hold. At most {outcome['steps_redone_max']} steps were trained again after "
        "an interruption."
    )


def _broken_lines(outcome):
    if not outcome["broken"]:
        return
    yield "What did not hold:\n"
    for line in outcome["broken"]:
        where = f"row {line['row']}, {line['engine']} trainer, {line['kind']}"
        yield f"- {where}: {line['broken'].splitlines()[0]}"


def _row_line(outcome, row):
    counts = outcome["by_row"][row.number]
    median, longest = _seconds_of(outcome, row.number)
    return (
        f"| {row.number} | {row.title} | {row.expected} | {counts['injected']} | "
        f"{counts['passed']} | {median} | {longest} |"
    )


def _seconds_of(outcome, number):
    """Median and longest recovery from a row, of the toy trainer unless it has none."""
    for engine in ("toy", "keras"):
        found = outcome["recovery_seconds"].get(f"{number} {engine}")
        if found:
            return f"{found['median']:.1f} s", f"{found['max']:.1f} s"
    return "", ""


def _mutant_lines(outcome):
    for name, found in outcome.get("mutants", {}).items():
        rows = ", ".join(map(str, found["rows"]))
        caught = found["caught_by"] or "**not missed**"
        yield f"| {name} | {rows} | {caught} |"
