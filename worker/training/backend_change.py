"""Publishes under TensorFlow what another backend has trained.

Keras fixes its backend at the first import, and SavedModels are TensorFlow's. When the
training is done and its last checkpoint lies on the disk, the process becomes the same
program under TensorFlow, which goes on from that checkpoint as any later attempt
would: it evaluates, exports and proves the model with the very weights.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import keras

from shared.errors import UserError
from worker import events

_TRAINS, _PUBLISHES = ("tensorflow", "jax"), "tensorflow"


def check_backend() -> None:
    """Refuses a backend that the engine does not train under.

    Raises:
        UserError: Naming the environment variable.
    """
    name = keras.backend.backend()
    if name not in _TRAINS:
        raise UserError(
            f"KERAS_BACKEND must be one of {', '.join(_TRAINS)} on a worker. "
            f"Received: KERAS_BACKEND={name!r}."
        )


def can_publish() -> bool:
    """Whether this process writes SavedModels."""
    return keras.backend.backend() == _PUBLISHES


def go_on_under_tensorflow(spec: Path, workdir: Path) -> NoReturn:
    """Becomes `worker.training.run` under TensorFlow, in this very process.

    The process number, the standard streams and the event stream stay, so whoever
    watches it notices nothing.

    Args:
        spec: The SPEC.json.
        workdir: The attempt's folder, with a checkpoint of the finished training.
    """
    environment = os.environ | events.hand_down() | {"KERAS_BACKEND": _PUBLISHES}
    command = [sys.executable, "-m", "worker.training.run", str(spec), str(workdir)]
    sys.stdout.flush()
    sys.stderr.flush()
    # Handlers do not outlive this program, and by default these two would end the next
    # one before it has its own; a stop may.
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own program
