"""Times a training in a process of its own: `python -m worker.insight.timed_steps`.

What a training costs is what a training does: a fresh process that builds the model,
makes its first steps and holds nothing else. What it holds is what a training holds,
and one that does not fit beside the forecast ends alone; the forecast says so. What a
disk or a network did to it passes: that says nothing of trainings, and the forecast
ends as if it had met it itself.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.errors import OutageError, RetryableError
from worker import events
from worker.insight.step_timing import CannotTime, StepTiming
from worker.training import determinism, failures

_PR_SET_PDEATHSIG = 1
_MOST_SECONDS = 600
_NEWS_EVERY_SECONDS = 5.0
_TOO_LARGE = "it does not fit into the memory of this worker"
_TOO_SLOW = f"its first steps took more than {_MOST_SECONDS // 60} minutes"
# By the codes of `failures.explain`.
_PASSING: dict[str, type[Exception]] = {
    "files": OSError,
    "outage": OutageError,
    "interrupted": RetryableError,
}
_LONGEST_MESSAGE = 500
_CANNOT_ANSWER = os.EX_IOERR


def time_apart(
    spec: dict[str, Any], folder: Path, report: Callable[[int], None]
) -> StepTiming:
    """Builds what `spec` trains and times some of its steps, or its predictions.

    Args:
        spec: SPEC.json of a training.
        folder: For the files that are spoken through; made if it is not there.
        report: Called every few seconds with the seconds so far.

    Raises:
        CannotTime: It does not fit, fails, or does not end.
        OSError: A file failed, here or there.
        RetryableError: The network failed there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked, answer = folder / "SPEC.json", folder / "STEPS.json"
    answer.unlink(missing_ok=True)
    asked.write_text(json.dumps(spec))
    environment = {k: v for k, v in os.environ.items() if k != events.FD_VARIABLE}
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, str(asked), str(answer), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    code = _wait(child, report)
    if code == -signal.SIGKILL:  # nobody else kills it
        raise CannotTime(_TOO_LARGE)
    if code == _CANNOT_ANSWER:
        raise OSError(f"{answer} could not be written")
    try:
        told = json.loads(answer.read_text())
    except (FileNotFoundError, ValueError):
        reason = f"its first steps ended with exit code {code}"
        raise CannotTime(reason) from None
    if "passing" in told:
        raise _PASSING[told["passing"]](told["message"])
    if "failed" in told:
        raise CannotTime(told["failed"])
    return StepTiming(**told)


def main(arguments: list[str]) -> int:
    """Times what SPEC.json describes; its answer is a file."""
    asked, answer, parent = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    _end_with(parent)
    determinism.prepare_environment()
    try:
        from worker.insight.timing import (  # noqa: PLC0415
            time_predictions,
            time_steps,
        )
        from worker.training import materials  # noqa: PLC0415 - frameworks
        from worker.training.request import load_request  # noqa: PLC0415
        from worker.training.training_state import TrainingState  # noqa: PLC0415

        material = materials.prepare(load_request(asked, asked.parent), TrainingState())
        time_it = time_steps if material.spec.fine_tune_epochs else time_predictions
        told = asdict(time_it(material))
    except Exception as error:  # noqa: BLE001 - whatever it is, the other one tells it
        traceback.print_exc()
        told = _describe(error)
    try:
        answer.write_text(json.dumps(told))
    except OSError:
        traceback.print_exc()
        return _CANNOT_ANSWER
    return 0


def _end_with(parent: int) -> None:
    """Has the kernel end this process with the one that asked.

    And this one first, when memory runs out: the other one tells it.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _describe(error: Exception) -> dict[str, Any]:
    if failures.is_memory(error) or type(error).__name__ == "DeviceMemoryTooSmall":
        return {"failed": _TOO_LARGE}
    failure = failures.explain(error)
    if failure.code in _PASSING and not failure.permanent:
        return {"passing": failure.code, "message": str(error)[:_LONGEST_MESSAGE]}
    return {"failed": f"its first steps failed ({failure.message.rstrip('.')})"}


def _wait(child: subprocess.Popen[bytes], report: Callable[[int], None]) -> int:
    """Returns the exit code."""
    began = time.monotonic()
    while True:
        try:
            return child.wait(_NEWS_EVERY_SECONDS)
        except subprocess.TimeoutExpired:
            seconds = round(time.monotonic() - began)
            if seconds > _MOST_SECONDS:
                child.kill()
                child.wait()
                raise CannotTime(_TOO_SLOW) from None
            report(seconds)


if __name__ == "__main__":
    from worker.training.run import leave

    leave(main(sys.argv[1:]))
