"""A fault campaign: `./trainyard chaos [--faults N] [--seed S] [--json]`.

Draws faults from the matrix, injects them into real processes, and lets oracles judge.
Prints the seed first: the same seed draws the same faults. Ends with 1 when anything
was lost, doubled or violated, when a row did not do as expected or was skipped, or when
a guard that was removed on purpose was not missed.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tests.chaos import mutants, report
from tests.chaos.draw import draw_batches
from tests.chaos.matrix import ROWS
from tests.chaos.records import KERAS, TOY

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_FAULTS = 60
# Arenas at once. Toy trainers mostly wait: for leases, for watchdogs, for each other;
# the real engine works all the time, and more of it makes others miss their leases.
LANES = max(2, min(8, os.cpu_count() or 2))
ENGINE_LANES = max(1, (os.cpu_count() or 2) // 4)
BATCH_SECONDS = 3600
UNTRIED = ("skipped", "not_drawn")
_said = threading.Lock()


def main(arguments):
    options = _parse(arguments)
    say = _say_nothing if options.json else _say
    say(f"seed {options.seed}, {options.faults} faults")
    began = time.monotonic()
    batches = draw_batches(
        options.faults, options.seed, options.rows, engine=options.engine
    )
    lines, missed = run_batches(batches, say, keep=options.keep, test=options.mutants)
    outcome = gather(lines, options) | missed
    outcome["seconds"] = round(time.monotonic() - began)
    outcome["passed"] = is_passed(outcome)
    if options.json:
        sys.stdout.write(json.dumps(outcome) + "\n")
    else:
        sys.stdout.write(report.describe(outcome) + "\n")
    if options.write:
        report.write(outcome, options.write)
    return 0 if outcome["passed"] else 1


def run_batches(batches, say, *, keep=None, test=False):
    """Runs each batch in an arena of its own, a few at once.

    Returns:
        Their lines, and what `mutants.run` found when `test` asks for it.
    """
    tasks = {KERAS: deque(), TOY: deque()}
    for batch in batches:
        tasks[batch.engine].append(partial(_run, batch, say, keep))
    missed = Future()
    if test:
        tasks[TOY].append(lambda: missed.set_result(mutants.run(say)) or [])
    else:
        missed.set_result({})
    with ThreadPoolExecutor(LANES) as pool:
        lanes = [
            pool.submit(_drain, list(tasks.values())[n >= ENGINE_LANES :])
            for n in range(LANES)
        ]
    return [line for lane in lanes for line in lane.result()], missed.result()


def _drain(queues):
    """Does what is in the queues, one after the other, beside other lanes."""
    lines = []
    for queue in queues:
        while task := _take(queue):
            lines += task()
    return lines


def _take(queue):
    with contextlib.suppress(IndexError):  # another lane took the last one
        return queue.popleft()


def _run(batch, say, keep):
    asked = asdict(batch) | {"keep": keep}
    asked["faults"] = [{"row": row, "seed": seed} for row, seed in batch.faults]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.batch"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    timer = threading.Timer(BATCH_SECONDS, process.kill)
    timer.start()
    process.stdin.write(json.dumps(asked))
    process.stdin.close()
    errors = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    reader.start()
    lines = []
    for text in process.stdout:
        line = json.loads(text)
        lines.append(line)
        _tell(line, say)
    process.wait()
    timer.cancel()
    reader.join()
    told = {line["row"] for line in lines if "row" in line}
    if process.returncode or not any("promised" in line for line in lines):
        missing = [row for row, _ in batch.faults if row not in told]
        lines.append({"error": f"{''.join(errors)[-2000:]} Not tried: {missing}."})
    return lines


def _tell(line, say):
    if "row" in line:
        row = ROWS[line["row"]]
        wrong = [line["skipped"], line["broken"], "; ".join(line["violations"])]
        where = f"{line['engine']:5} {line['kind']:8} {line['seconds']:6.1f} s"
        state = next(filter(None, wrong), "ok")
        say(f"{row.number:3} {where}  {row.title[:60]:60}  {state[:300]}")
    elif "error" in line:
        say(f"an arena failed: {line['error']}")
    elif "kept" in line:
        say(f"its folder is kept: {line['kept']}")


def gather(lines, options):
    """Returns the figures of a campaign."""
    faults = [line for line in lines if "row" in line]
    ends = [line for line in lines if "promised" in line]
    injected = [line for line in faults if not line["skipped"]]
    by_row = {
        number: {
            "injected": sum(line["row"] == number for line in injected),
            "passed": sum(
                line["row"] == number and not (line["broken"] or line["violations"])
                for line in injected
            ),
        }
        for number in ROWS
    }
    recoveries = defaultdict(list)
    for line in injected:
        if "recovery_seconds" in line:
            recoveries[f"{line['row']} {line['engine']}"].append(
                line["recovery_seconds"]
            )
    violated = [v for line in (*faults, *ends) for v in line.get("violations", [])]
    return {
        "seed": options.seed,
        "faults": len(injected),
        "engine_faults": sum(line["engine"] == "keras" for line in injected),
        "promised": sum(line["promised"] for line in ends),
        "archives": sum(line["archives"] for line in ends),
        "lost": sum(len(line["lost"]) for line in ends),
        "doubled": sum(len(line["doubled"]) for line in ends),
        "violations": len(violated),
        "violated": violated,
        "broken": [
            {key: line[key] for key in ("row", "seed", "kind", "engine", "broken")}
            for line in injected
            if line["broken"]
        ],
        "errors": [line["error"] for line in lines if "error" in line],
        "skipped": sorted({line["row"] for line in faults if line["skipped"]}),
        "not_drawn": sorted(
            set(options.rows or ROWS) - {line["row"] for line in faults}
        ),
        "steps_redone_max": max(
            (f.get("steps_redone", 0) for f in injected), default=0
        ),
        "recovery_seconds": {
            name: _summarise(seconds) for name, seconds in sorted(recoveries.items())
        },
        "by_row": by_row,
    }


def _summarise(seconds):
    ordered = sorted(seconds)
    return {
        "median": ordered[len(ordered) // 2],
        "max": ordered[-1],
        "count": len(ordered),
    }


def is_passed(outcome):
    """Whether nothing was lost, doubled, violated, broken, skipped or not missed."""
    bad = ("lost", "doubled", "violations", "broken", "errors", *UNTRIED)
    tests_are_bad = outcome.get("mutants_missed") or outcome.get("control")
    return not any(outcome[name] for name in bad) and not tests_are_bad


def _parse(arguments):
    parser = argparse.ArgumentParser(prog="trainyard chaos", description=__doc__)
    parser.add_argument(
        "--faults", type=int, default=DEFAULT_FAULTS, help="46 or more hold every row"
    )
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6)
    )
    parser.add_argument("--json", action="store_true", help="one object, nothing else")
    parser.add_argument(
        "--rows", type=int, nargs="+", choices=sorted(ROWS), help="only these rows"
    )
    parser.add_argument(
        "--engine", choices=["toy", "keras"], help="inject into this trainer alone"
    )
    parser.add_argument(
        "--no-mutants", dest="mutants", action="store_false",
        help="do not remove guards to see whether they are missed",
    )  # fmt: skip
    parser.add_argument("--keep", help="folder that keeps the arenas of failed batches")
    parser.add_argument("--write", type=Path, help="file that gets the report")
    options = parser.parse_args(arguments)
    if options.faults < 1:
        parser.error("--faults must be 1 or more")
    return options


def _say(sentence):
    with _said:
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()


def _say_nothing(_sentence):
    """With --json nothing but the object is printed."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
