"""Tests the tests: takes one guard after the other out of a copy of the platform.

Each mutant is a piece of source text and what stands in its place, exactly once in its
file: when the code changes, the list must follow, and says so. A campaign of the rows
that are about the guard runs in the copy, and must come to a bad end; in a copy with
nothing taken out, the same faults must come to a good one.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("shared", "worker", "web", "cli", "tests")
AT_ONCE = 1  # each holds several arenas, beside those of the campaign
SECONDS = 900
SEED = 1


@dataclass(frozen=True)
class Mutant:
    """One guard, taken out.

    Args:
        name: Of the guard.
        path: Of the file.
        before: What stands there.
        after: What stands there without the guard.
        rows: Of the matrix, which must miss it.
    """

    name: str
    path: str
    before: str
    after: str
    rows: tuple[int, ...]


MUTANTS = (
    Mutant(
        "claim: the fence rises",
        "shared/attempt_store.py",
        "            fence=Job.fence + 1,\n",
        "",
        (1,),
    ),
    Mutant(
        "renew: under the own fence",
        "shared/attempt_store.py",
        "        .where(Job.id == job_id, Job.fence == fence, Job.state == "
        "JobStatus.RUNNING)\n        .values(hb=Job.hb + 1",
        "        .where(Job.id == job_id, Job.state == JobStatus.RUNNING)\n"
        "        .values(hb=Job.hb + 1",
        (5,),
    ),
    Mutant(
        "checkpoint: under the own fence",
        "shared/attempt_progress_store.py",
        "        .where(Job.id == job_id, Job.fence == fence, Job.state == "
        "JobStatus.RUNNING)\n        .values(updated_at=now_ms(), **values)",
        "        .where(Job.id == job_id, Job.state == JobStatus.RUNNING)\n"
        "        .values(updated_at=now_ms(), **values)",
        (5,),
    ),
    Mutant(
        "complete: under the own fence",
        "shared/attempt_result_store.py",
        "            Job.fence == fence,\n            Job.state == JobStatus.RUNNING,\n"
        "            Job.desired",
        "            Job.state == JobStatus.RUNNING,\n            Job.desired",
        (5,),
    ),
    Mutant(
        "complete: not once it is cancelled",
        "shared/attempt_result_store.py",
        "            Job.desired != Desired.CANCEL,\n",
        "",
        (25,),
    ),
    Mutant(
        "end: under the own fence",
        "shared/attempt_end_store.py",
        "        .where(Job.id == job_id, Job.fence == fence, Job.state == "
        "JobStatus.RUNNING)\n        .with_for_update()",
        "        .where(Job.id == job_id, Job.state == JobStatus.RUNNING)\n"
        "        .with_for_update()",
        (5,),
    ),
    Mutant(
        "slot: one at a time",
        "worker/slots.py",
        "        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        pass\n",
        (3,),
    ),
    Mutant(
        "reaper: only where the heart stands still",
        "shared/reconciler.py",
        "if self._stands_still(job, now) and job.expired]",
        "if job.expired]",
        (42,),
    ),
    Mutant(
        "reaper: only when the lease has run out",
        "shared/reconciler.py",
        "if self._stands_still(job, now) and job.expired]",
        "if self._stands_still(job, now)]",
        (42,),
    ),
    Mutant(
        "manifest: what is read is verified",
        "shared/artifacts.py",
        'for name, expected in facts["files"].items():',
        "for name, expected in {}.items():",
        (28,),
    ),
)

_ALL_ROWS = {row for mutant in MUTANTS for row in mutant.rows}
CONTROL = Mutant("nothing taken out", "", "", "", tuple(sorted(_ALL_ROWS)))


def run(say):
    """Returns how many mutants were caught, of how many, and which were not.

    `control` is what was wrong although nothing had been taken out, or None.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        control, *verdicts = pool.map(lambda m: _try(m, say), (CONTROL, *MUTANTS))
    missed = [m.name for m, v in zip(MUTANTS, verdicts, strict=True) if not v]
    return {
        "mutants_caught": len(MUTANTS) - len(missed),
        "mutants": {
            mutant.name: {"rows": mutant.rows, "caught_by": verdict}
            for mutant, verdict in zip(MUTANTS, verdicts, strict=True)
        },
        "mutants_missed": missed,
        "control": control,
    }


def _try(mutant, say):
    """Returns the first thing that a campaign found wrong with the mutant, or None."""
    with tempfile.TemporaryDirectory(prefix="ty-mutant-") as folder:
        copy = Path(folder)
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, copy / package, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutant is not CONTROL:
            mutate(copy, mutant)
        found = _find_wrong(copy, mutant)
    say(f"mutant {mutant.name!r}: {found or 'nothing wrong'}")
    return found


def mutate(root, mutant):
    """Takes the guard out of the copy at `root`."""
    path = root / mutant.path
    text = path.read_text()
    count = text.count(mutant.before)
    if count != 1:
        raise ValueError(f"{mutant.name!r} is {count} times in {mutant.path}")
    path.write_text(text.replace(mutant.before, mutant.after))


def _find_wrong(copy, mutant):
    # Guards are probabilistic prey: some rows meet them in some of their turns only.
    faults = 4 * len(mutant.rows)
    rows = list(map(str, mutant.rows))
    command = [sys.executable, "-m", "tests.chaos", "--json", "--no-mutants"]
    command += ["--engine", "toy"]
    command += ["--faults", str(faults), "--seed", str(SEED), "--rows", *rows]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=_environment(copy),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {SECONDS} s"
    try:
        outcome = json.loads(done.stdout)
    except ValueError:  # the campaign's own fault, which finds nothing
        return None
    wrong = list(outcome["violated"])
    if outcome["lost"] or outcome["doubled"]:
        wrong.append(f"{outcome['lost']} lost, {outcome['doubled']} doubled")
    wrong += [line["broken"] for line in outcome["broken"]]
    return wrong[0][:200] if wrong else None


def _environment(copy):
    return os.environ | {"PYTHONPATH": str(copy)}
