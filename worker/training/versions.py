"""Names what computes here: all that decides the bits of a step besides its inputs."""

import os
import platform

import cv2
import keras
import numpy as np

from worker import events
from worker.training import determinism, feature_engines
from worker.training.training_state import EVALUATE, TrainingState


def list_versions() -> dict[str, str]:
    """Returns the versions of all that decides the numbers."""
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        backend: __import__(backend).__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "machine": platform.machine(),
    }


def describe_machine() -> dict[str, str]:
    """Returns the versions, whose kernels are used, and the processors."""
    return list_versions() | {
        "kernels": f"oneDNN {os.environ.get(determinism.ONEDNN_VARIABLE, 'default')}",
        "processor": feature_engines.name_processor(),
    }


def note_machine(state: TrainingState) -> None:
    """Writes into the state what computes here; says so if it is not as before."""
    before, here = state.facts.get("computed_by"), describe_machine()
    state.facts["computed_by"] = here
    # What is published under TensorFlow alone may have been trained elsewhere.
    if not before or before == here or state.phase == EVALUATE:
        return
    changed = [
        f"{name} {before.get(name, 'none')} -> {here.get(name, 'none')}"
        for name in sorted(before.keys() | here.keys())
        if before.get(name) != here.get(name)
    ]
    events.note(
        "info",
        "This attempt computes otherwise than the one before it "
        f"({'; '.join(changed)}): the result is as good, but not the same to the bit.",
    )
