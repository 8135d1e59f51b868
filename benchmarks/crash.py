"""Kills the trainer with `kill -9` while it trains and measures what that costs.

The real trainer, the preset `balanced` on real pictures with a checkpoint every epoch,
is killed at drawn moments of the frozen and of the fine-tune phase and started again
at once, as its worker does. Told are medians over the kills: how many steps and seconds
of training are done twice, and how long after the kill the next step has been trained
(what a worker adds to that is its heartbeat's share, see `kill_resume`). At the end
stands the share of the training's time in which no step was trained because of a
checkpoint. Exits 1 when that reaches 2 %, or when a durable checkpoint was passed over.

    ./trainyard bench crash [--data PATH] [--kills 3] [--seed 1] [--set key=value]
        [--json]
"""

import argparse
import itertools
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.pictures import open_pictures
from shared.assignments import parse_assignments
from shared.presets import build_training_spec

ROOT = Path(__file__).resolve().parent.parent
MOST_STALL = 0.02
PRESET = "balanced"
SETTINGS: dict[str, Any] = {
    "frozen_epochs": 80,  # long enough for all kills
    "fine_tune_epochs": 2,
    "early_stopping_patience": None,
    "class_weights": "balanced",
}
PHASES = ("frozen", "fine_tune")
# Kill k of n comes within this first share of the n-th part k of a phase's steps, so
# that it is over before the phase is.
LATEST_SHARE = 0.8


@dataclass
class Kill:
    """What one kill cost.

    Args:
        phase: The phase it hit.
        step: The last step that the trainer had reported.
        durable: The newest step that it had reported as saved.
        resumed: The step gone on from.
        steps_repeated: From that one to the last reported.
        seconds_repeated: Training time from that checkpoint's step to the kill.
        seconds_to_next_step: From the kill to the end of the next attempt's first step.
    """

    phase: str
    step: int
    durable: int
    resumed: int
    steps_repeated: int
    seconds_repeated: float
    seconds_to_next_step: float


class Trainer:
    """One attempt: the engine's own process, whose events are read as they come."""

    def __init__(self, spec: Path, work: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._errors = work / "stderr.log"
        with self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker.training.run", spec, work],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def read_event(self) -> dict[str, Any] | None:
        """Returns the next event; None when there is no further one."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return None
        self.events.append(json.loads(line))
        return self.events[-1]

    def watch(self, phase: str, share: float) -> dict[str, Any]:
        """Waits until `share` of the phase's steps are trained; returns that event."""
        while (event := self.read_event()) is not None:
            if event["event"] != "progress" or event["phase"] != phase:
                continue
            if event.get("step") and event["done"] >= share * event["total"]:
                return event
        raise SystemExit(
            f"The trainer ended before a kill in {phase}: "
            f"{self._errors.read_text()[-2000:]}"
        )

    def end(self, *, killed: bool) -> int:
        """Kills it if asked, reads the rest and returns its exit code."""
        if killed:
            self.process.send_signal(signal.SIGKILL)
        while self.read_event() is not None:
            pass
        return self.process.wait()

    def last_step(self) -> int:
        """The last step that it has reported."""
        return max(event.get("step") or 0 for event in self.events)

    def newest(self, name: str) -> int:
        """The latest step of its events of this name; 0 without any."""
        steps = [event["step"] for event in self.events if event["event"] == name]
        return max(steps, default=0)

    def trained_at(self, step: int) -> float:
        """When it reported a step at or beyond `step`, in Unix seconds."""
        told = (e for e in self.events if e["event"] in {"progress", "metrics"})
        return min(e["at"] for e in told if (e.get("step") or 0) >= step)


def run_campaign(spec: Path, work: Path, kills: int, draw: random.Random) -> list[Kill]:
    """Kills the trainer `kills` times in each phase, then lets it finish."""
    found: list[Kill] = []
    trainer = Trainer(spec, work)
    try:
        for phase, number in itertools.product(PHASES, range(kills)):
            share = (number + LATEST_SHARE * draw.random()) / kills
            trainer.watch(phase, share)
            killed_at, killed = time.time(), trainer
            killed.end(killed=True)
            trainer = Trainer(spec, work)
            found.append(weigh(killed, killed_at, trainer, phase))
            print(found[-1], file=sys.stderr, flush=True)
        if trainer.end(killed=False) != 0:
            raise SystemExit("The trainer did not finish.")
    finally:
        trainer.process.kill()
    return found


def weigh(killed: Trainer, killed_at: float, following: Trainer, phase: str) -> Kill:
    """Returns what one kill cost, from what both attempts said and when."""
    first = following.watch(phase, 0)
    resumed = following.newest("resumed")
    step = killed.last_step()
    begun_at = killed.trained_at(max(resumed, 1))
    return Kill(
        phase=phase,
        step=step,
        durable=killed.newest("checkpoint"),
        resumed=resumed,
        steps_repeated=max(0, step - resumed),
        seconds_repeated=round(max(0.0, killed_at - begun_at), 3),
        seconds_to_next_step=round(first["at"] - killed_at, 3),
    )


def measure(data: Path | None, assignments: list[str], kills: int, seed: int) -> dict:
    """Runs the whole campaign in a folder of its own and returns its figures."""
    overrides = SETTINGS | parse_assignments(assignments)
    training = build_training_spec(PRESET, overrides)
    with tempfile.TemporaryDirectory(prefix="crash-") as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        title, pictures = open_pictures(data, folder / "pictures")
        (folder / "work").mkdir()
        spec = folder / "SPEC.json"
        fields = {
            "kind": "train",
            "dataset": str(pictures),
            "training": training.model_dump(mode="json"),
        }
        spec.write_text(json.dumps(fields))
        found = run_campaign(spec, folder / "work", kills, random.Random(seed))
        text = (folder / "work" / "final" / "evaluation.json").read_text()
    evaluation = json.loads(text)
    steps = -(-evaluation["splits"]["train"] // training.batch_size)
    return {
        "data": title,
        "seed": seed,
        "steps_per_epoch": steps,
        "steps_repeated": median(found, "steps_repeated"),
        "seconds_repeated": median(found, "seconds_repeated"),
        "seconds_to_next_step": median(found, "seconds_to_next_step"),
        "checkpoint_stall": evaluation["checkpoint_stall"],
        "by_phase": {
            phase: {
                key: median([kill for kill in found if kill.phase == phase], key)
                for key in (
                    "steps_repeated",
                    "seconds_repeated",
                    "seconds_to_next_step",
                )
            }
            for phase in PHASES
        },
        "kills": [asdict(kill) for kill in found],
        "seconds": evaluation["seconds"],
    }


def median(kills: list[Kill], name: str) -> float:
    """The median of one figure over `kills`."""
    return round(statistics.median(getattr(kill, name) for kill in kills), 3)


def print_table(result: dict) -> None:
    """Prints the medians of each phase and of both."""
    line = "{:<12}{:>16}{:>18}{:>22}"
    print(
        line.format("phase", "steps repeated", "seconds repeated", "s to the next step")
    )
    for phase, row in [*result["by_phase"].items(), ("both", result)]:
        figures = (row["steps_repeated"], row["seconds_repeated"])
        print(line.format(phase, *figures, row["seconds_to_next_step"]))
    print(
        f"{result['data']}, {len(result['kills'])} kills, seed {result['seed']}, "
        f"{result['steps_per_epoch']} steps an epoch; steps waited for checkpoints "
        f"{result['checkpoint_stall']:.2%} of the training's time"
    )


def main() -> int:
    """Reads the arguments, runs the campaign, prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--kills", type=int, default=3, help="in each phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # So that whoever ends this ends the trainer too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    result = measure(arguments.data, arguments.set, arguments.kills, arguments.seed)
    if arguments.json:
        print(json.dumps(result))
    else:
        print_table(result)
    passed_over = any(kill["resumed"] < kill["durable"] for kill in result["kills"])
    return 1 if passed_over or result["checkpoint_stall"] >= MOST_STALL else 0


if __name__ == "__main__":
    sys.exit(main())
