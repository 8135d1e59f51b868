"""Trains one model: `python -m worker.training.run SPEC.json WORKDIR`.

The child process of a training attempt, and the whole engine when run by hand. It
knows no database and no broker: SPEC.json goes in, events come out, and `WORKDIR/final`
holds the result. Killed at any moment and started again, it goes on where its last
checkpoint stands and ends with the same weights to the bit.

Exit codes: 0 done; 75 stopped as asked, state saved; 64 the spec or the data cannot be
used; 70 an exception; 71 the device's memory is too small; 72 the loss is no number any
more, and the next attempt learns at half the rate; 74 a file failed.
"""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from worker import events
from worker.training import checkpoint, determinism, failures
from worker.training.best_weights import BestWeights
from worker.training.idle_settings import describe_idle_settings
from worker.training.request import Request, load_request
from worker.training.stop_requests import STOPPED_EXIT_CODE, Stopped, StopRequests
from worker.training.training_state import (
    EVALUATE,
    FINE_TUNE,
    FROZEN,
    Stopwatch,
    TrainingState,
)

if TYPE_CHECKING:
    from worker.training.frozen_views import FrozenViews
    from worker.training.phase_setup import Material
    from worker.training.phases import Trainer

_USAGE = "usage: python -m worker.training.run SPEC.json WORKDIR"


def main(arguments: list[str]) -> int:
    """Runs one attempt and returns its exit code."""
    started = time.monotonic()
    if len(arguments) != 2:  # noqa: PLR2004 - the spec and the folder
        sys.stderr.write(_USAGE + "\n")
        return 64
    events.take_over_stdout()
    stops = StopRequests()
    stops.install()
    determinism.prepare_environment()
    spec_path, workdir = map(Path, arguments)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        request = load_request(spec_path, workdir)
        if not train(request, stops, started=started):
            from worker.training import backend_change  # noqa: PLC0415 - imports Keras

            backend_change.go_on_under_tensorflow(spec_path, request)
    except Stopped:
        return STOPPED_EXIT_CODE
    except Exception as error:  # noqa: BLE001 - every failure gets its exit code
        return failures.tell(error)
    return 0


def train(request: Request, stops: StopRequests, *, started: float) -> bool:
    """The story of one training, from the dataset to the published result.

    Args:
        request: What was asked for.
        stops: What signals ask for meanwhile.
        started: When the process began, on the monotonic clock.

    Returns:
        Whether the result is published; if not, its training is done and saved, and
        TensorFlow must do the rest.
    """
    # Importing the frameworks takes seconds: signals are obeyed before that.
    from worker.training import (  # noqa: PLC0415
        backend_change,
        materials,
        phase_setup,
        publish,
    )
    from worker.training.frozen_views import FrozenViews  # noqa: PLC0415
    from worker.training.phases import Trainer  # noqa: PLC0415

    events.stage("imports")
    backend_change.check_backend()
    events.phase("prepare")
    if publish.find_published(request):
        return True
    material, state, arrays, stopwatch = _take_up(request, started)
    best = BestWeights(request.training, state, arrays.pop("best", []))
    trainer = Trainer(
        request.training,
        state,
        best=best,
        checkpoints=materials.build_writer(request),
        stops=stops,
        stopwatch=stopwatch,
        may_roll_back=request.may_roll_back,
    )
    if state.phase == FROZEN:
        views = FrozenViews(request, material, state, stops, stopwatch)
        if _open_views(views, trainer, stops):
            material = materials.settle(material, state)
            events.stage("features")
            stopwatch.switch(FROZEN)
            events.phase(FROZEN)
            phase = phase_setup.build_frozen(
                material,
                views.arrays,
                views.draw_from,
                rate_share=phase_setup.share_of_rate(state, FROZEN),
            )
            trainer.train(phase, arrays)
            del phase
        arrays = {}
        # They hold the frozen base; fine-tuning has one of its own.
        del views
    if state.phase == FINE_TUNE:
        stopwatch.switch(FINE_TUNE)
        events.phase(FINE_TUNE)
        trainer.train(phase_setup.build_fine_tune(material, state, best), arrays)
    if not backend_change.can_publish():
        return False
    stopwatch.switch(EVALUATE)
    publish.tell_which_phase_won(request.training, state)
    model = phase_setup.build_best(material, state, best)
    publish.publish(request, material, model, state, stopwatch)
    return True


def _take_up(
    request: Request, started: float
) -> tuple["Material", TrainingState, dict[str, Any], Stopwatch]:
    """Returns the dataset and where to go on with it: at a checkpoint or at the start.

    The arrays are the checkpoint's; without one there are none.
    """
    from worker.training import materials  # noqa: PLC0415 - imports the frameworks

    stored = checkpoint.find_newest(request)
    state = stored.state if stored else _new_state(request)
    stopwatch = Stopwatch(state.seconds, "prepare", started=started)
    material = materials.prepare(request, state)
    if stored and not materials.is_same_dataset(material, state):
        checkpoint.set_aside_all(request)
        settled = {name: state.facts[name] for name in ("threads", "deterministic")}
        stored, state = None, _new_state(request)
        state.facts |= settled  # randomness is fixed once in a process
        stopwatch = Stopwatch(state.seconds, "prepare", started=started)
    materials.note_facts(request, material, state)
    checkpoint.tell_start(request, stored)
    idle = describe_idle_settings(request.training)
    if idle and not stored:
        events.note("info", idle)
    arrays = stored.arrays if stored else {}
    return materials.settle(material, state), state, arrays, stopwatch


def _open_views(views: "FrozenViews", trainer: "Trainer", stops: StopRequests) -> bool:
    """Returns whether there is still something to train.

    Not where the user wants the best of an earlier attempt now, and this one would
    first have to compute views again.
    """
    try:
        views.open()
    except Stopped:
        if stops.stop:
            raise
        trainer.finish_early()
        return False
    return True


def _new_state(request: Request) -> TrainingState:
    return TrainingState(phase=FROZEN if request.training.frozen_epochs else FINE_TUNE)


def leave(code: int) -> NoReturn:
    """Ends the process without the frameworks' farewell.

    All that matters is on the disk by now. Once, a run that had nothing left to do was
    aborted at its end (`terminate called without an active exception`), which reports a
    finished training as crashed. It could not be repeated; the likely cause is a
    library's destructor that met a thread still running.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
