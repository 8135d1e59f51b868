"""Runs the real engine as a child process, watches its events, and kills it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.worker import warm_children

ROOT = Path(__file__).resolve().parents[3]
LONGEST_SECONDS = 240


class Engine:
    """One attempt in a working folder.

    Args:
        spec: SPEC.json.
        workdir: The folder.
        module: What is run.
        cold: Whether it is a new Python, which loads the frameworks itself. With an
            environment of its own it always is.
        environment: Changes to this process's own.
    """

    def __init__(
        self,
        spec: Path,
        workdir: Path,
        *,
        module: str = "worker.training.run",
        cold: bool = False,
        **environment: str,
    ):
        workdir.mkdir(parents=True, exist_ok=True)
        self.workdir = workdir
        self.events = []
        self._started = time.monotonic()
        command = [module, str(spec), str(workdir)]
        log = workdir / "stderr.log"
        if cold or environment or not warm_children.is_usual():
            self.process = start_cold(command, log, environment)
        else:
            self.process = warm_children.WarmProcess(command, log)

    def read_event(self):
        """Returns the next event, or None when the process has ended."""
        assert time.monotonic() - self._started < LONGEST_SECONDS
        line = self.process.stdout.readline()
        if not line:
            return None
        self.events.append(json.loads(line))
        return self.events[-1]

    def watch(self, is_due):
        """Returns the first event for which `is_due` holds."""
        while (event := self.read_event()) is not None:
            if is_due(event):
                return event
        raise AssertionError(f"it ended first: {self.errors()}")

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)

    def finish(self):
        """Reads to the end and returns the exit code."""
        while self.read_event() is not None:
            pass
        code = self.process.wait(LONGEST_SECONDS)
        self.process.stdout.close()
        return code

    def named(self, name):
        return [event for event in self.events if event["event"] == name]

    def errors(self):
        return (self.workdir / "stderr.log").read_text()[-3000:]


def start_cold(command, log, environment):
    with log.open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )


def run_killed_at(spec, workdir, is_due, number=signal.SIGKILL, **how):
    """Runs an attempt until `is_due`, kills it there and returns it, ended."""
    engine = Engine(spec, workdir, **how)
    engine.watch(is_due)
    engine.kill(number)
    engine.code = engine.finish()
    return engine


def run_to_end(spec, workdir, **how):
    engine = Engine(spec, workdir, **how)
    assert engine.finish() == 0, engine.errors()
    return engine


def run_until_trained(spec, workdir, **how):
    """Runs an attempt until nothing is left but to publish, which takes the longest."""

    def is_trained(event):
        return event["event"] == "phase" and event["phase"] == "export"

    return run_killed_at(spec, workdir, is_trained, **how)


def kill_while_writing(spec, workdir, is_due):
    """Kills an attempt in the middle of a checkpoint written after `is_due`."""
    engine = Engine(spec, workdir)
    engine.watch(is_due)
    while not list((workdir / "ckpt").glob(".tmp-*")):
        assert engine.process.poll() is None, "it ended before it wrote"
        time.sleep(0.0005)
    engine.kill()
    engine.code = engine.finish()
    return engine


def write_spec(path, dataset, training, **more):
    path.write_text(
        json.dumps(
            {"kind": "train", "dataset": str(dataset), "training": training} | more
        )
    )
    return path


def newest_checkpoint(workdir):
    return max((workdir / "ckpt").glob("[0-9]*"))


def read_arrays(checkpoint):
    """Everything a checkpoint holds, as bytes, by variable."""
    described = json.loads((checkpoint / "state.json").read_text())["arrays"]
    with np.load(checkpoint / "arrays.npz") as arrays:
        return {
            (item["group"], item["path"], number): arrays[item["key"]].tobytes()
            for number, item in enumerate(described)
        }


def read_result(workdir):
    """What was published, without the wall time it took."""
    evaluation = json.loads((workdir / "final" / "evaluation.json").read_text())
    del evaluation["seconds"], evaluation["checkpoint_stall"]
    predictions = (workdir / "final" / "predictions.parquet").read_bytes()
    return evaluation, predictions


def epoch_metrics(*engines):
    """The metrics of each step; a step that was trained again must repeat them."""
    found = {}
    for engine in engines:
        for event in engine.named("metrics"):
            known = found.setdefault(event["step"], event["values"])
            assert known == event["values"], f"step {event['step']} was not repeated"
    return found


def leave_no_process(engine):
    if engine.process.poll() is None:
        os.kill(engine.process.pid, signal.SIGKILL)
