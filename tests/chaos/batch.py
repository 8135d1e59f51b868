"""One arena's share of a campaign: `python -m tests.chaos.batch < batch.json`.

Injects the drawn rows one after the other and prints a JSON line about each; the last
line is about the whole: what the client outside has at the end.
"""

import json
import random
import shutil
import sys
import time
import traceback
from pathlib import Path

from tests.chaos import matrix, oplog, oracles
from tests.chaos.arena import Arena
from tests.chaos.records import KERAS, TOY
from tests.chaos.rows import CannotInject
from tests.memory_folder import make_memory_folder

SETTLE_SECONDS = {TOY: 90, KERAS: 300}
LOG_LINES = 15


def main():
    batch = json.load(sys.stdin)
    parent = make_memory_folder("chaos")
    folder = parent / "arena"
    arena = Arena(folder, batch["kind"], batch["engine"])
    is_fine = False
    try:
        arena.start()
        passed = [_inject(arena, fault) for fault in batch["faults"]]
        is_fine = _judge(arena) and all(passed)
    except BaseException:  # noqa: BLE001 - whatever it was, it is told
        _say(error=traceback.format_exc()[-3000:], logs=_tails(folder))
    finally:
        arena.close()
        if not is_fine and batch.get("keep"):
            kept = Path(batch["keep"]) / f"{batch['kind']}-{time.time_ns()}"
            shutil.copytree(folder, kept, ignore_dangling_symlinks=True)
            _say(kept=str(kept))
        shutil.rmtree(parent, ignore_errors=True)


def _inject(arena, fault):
    """Injects one fault and asks the oracles; whether everything was as expected."""
    row = matrix.ROWS[fault["row"]]
    arena.log.add("nemesis", "fault", row=row.number, seed=fault["seed"])
    began = time.monotonic()
    broken, skipped, facts = None, None, {}
    try:
        facts = row.inject(arena, random.Random(fault["seed"])) or {}
    except CannotInject as error:
        skipped = str(error)
    except (AssertionError, TimeoutError) as error:
        broken = str(error) or traceback.format_exc()[-1000:]
    except Exception:  # noqa: BLE001 - of the row itself
        broken = traceback.format_exc()[-2000:]
    arena.heal()
    arena.wait_until_healthy()
    unsettled = arena.client.settle(SETTLE_SECONDS[arena.engine])
    violations = [f"I5 job {p.job_id} never ended" for p in unsettled]
    violations += oracles.find_violations(arena)
    _say(
        row=row.number,
        seed=fault["seed"],
        kind=arena.kind,
        engine=arena.engine,
        seconds=round(time.monotonic() - began, 1),
        broken=broken,
        skipped=skipped,
        violations=violations,
        **facts,
    )
    return not (broken or skipped or violations)


def _judge(arena):
    unsettled = arena.client.settle(SETTLE_SECONDS[arena.engine])
    collected = arena.client.collect()
    operations = oplog.read_operations(arena.log.path)
    lost, doubled, violations = oracles.judge(collected, unsettled, operations)
    violations += _compare_weights(arena, collected)
    _say(
        promised=len(collected),
        archives=sum(len(row["archives"]) for row in collected),
        lost=lost,
        doubled=doubled,
        violations=violations,
    )
    return not (lost or doubled or violations)


def _compare_weights(arena, collected):
    """Jobs of one plan must have published the same weights, however often killed."""
    found, expected = [], {}
    for row in collected:
        if not row["archives"] or row["promise"].finished_early:
            continue
        weights = row["archives"][0]["weights"]
        key = row["promise"].plan["steps"] if arena.engine == "toy" else arena.engine
        if expected.setdefault(key, weights) != weights:
            found.append(f"I6 job {row['job']} published other weights than its equals")
    return found


def _tails(folder):
    return {
        path.name: path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        for path in sorted(folder.glob("*.log"))
    }


def _say(**facts):
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
