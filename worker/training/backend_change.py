"""Publishes under TensorFlow what another backend has trained.

Keras fixes its backend at the first import, and SavedModels are TensorFlow's. When the
training is done and its last checkpoint lies on the disk, the process becomes the same
program under TensorFlow, which goes on from that checkpoint as any later attempt
would: it evaluates, exports and proves the model with the very weights.
"""

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import keras

from shared import artifacts
from shared.durable_files import write_atomically
from shared.errors import UserError
from worker import events
from worker.training import checkpoint
from worker.training.request import Request
from worker.training.training_state import EVALUATE

_TRAINS, _PUBLISHES = ("tensorflow", "jax"), "tensorflow"
_SPEC_NAME = "SPEC.publish.json"


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


def go_on_under_tensorflow(spec: Path, request: Request) -> NoReturn:
    """Becomes `worker.training.run` under TensorFlow, in this very process.

    The process number, the standard streams and the event stream stay, so whoever
    watches it notices nothing.

    Args:
        spec: The SPEC.json.
        request: What it asked for; the training is done.

    Raises:
        OSError: When the disk was too full to save the finished training, which
            TensorFlow would then train again.
    """
    spec = _name_own_checkpoint(spec, request)
    environment = os.environ | events.hand_down() | {"KERAS_BACKEND": _PUBLISHES}
    workdir = str(request.workdir)
    command = [sys.executable, "-m", "worker.training.run", str(spec), workdir]
    sys.stdout.flush()
    sys.stderr.flush()
    # Handlers do not outlive this program, and by default these two would end the next
    # one before it has its own; a stop may.
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own program


def _name_own_checkpoint(spec: Path, request: Request) -> Path:
    """Returns a spec that resumes where this process stands.

    A supervisor has named the checkpoints that there were when the attempt began; the
    end of the training is in one that the attempt has written since.
    """
    given = [candidate.path for candidate in request.resume_from or ()]
    own = checkpoint.list_checkpoints(request.workdir / "ckpt")[:1]
    newest = (own or given)[:1]
    if not newest or _read_phase(newest[0]) != EVALUATE:
        raise OSError(
            errno.ENOSPC, "No space is left for the checkpoint of the finished training"
        )
    if request.runs_alone or not own:
        return spec
    fields = json.loads(spec.read_text())
    manifest_sha = artifacts.sha256_file(own[0] / artifacts.MANIFEST)
    row = {"path": str(own[0].absolute()), "manifest_sha": manifest_sha}
    fields["resume_from"] = [row, *fields["resume_from"]]
    with write_atomically(request.workdir / _SPEC_NAME) as path:
        path.write_text(json.dumps(fields))
    return request.workdir / _SPEC_NAME


def _read_phase(path: Path) -> str:
    return str(json.loads((path / artifacts.MANIFEST).read_text())["phase"])
