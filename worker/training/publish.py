"""Turns the best weights into the result that the supervisor publishes.

`final/` is written like a checkpoint: a new folder, a manifest, one rename. A run that
is killed before the rename evaluates and exports again, which gives the same files; one
that is killed after it finds them here and only says so again.
"""

import shutil
import uuid
from pathlib import Path
from typing import Any

import keras

from shared import artifacts
from shared.training_spec import TrainingSpec
from worker import events
from worker.training.request import Request
from worker.training.training_state import FINE_TUNE, FROZEN, TrainingState


def find_published(request: Request) -> bool:
    """Whether this attempt's folder holds the finished result; reports it if so."""
    final = request.workdir / "final"
    if not (final / artifacts.MANIFEST).exists():
        return False
    try:
        facts = artifacts.verify_manifest(final)
    except artifacts.CorruptFolderError as error:
        events.note("warning", f"The finished result is damaged and made anew: {error}")
        shutil.rmtree(final)
        return False
    if facts["spec_sha"] != request.spec_sha:
        shutil.rmtree(final)
        return False
    _report(final, facts)
    return True


def tell_which_phase_won(spec: TrainingSpec, state: TrainingState) -> None:
    """Leaves a note when fine-tuning did not help and its weights are discarded."""
    best = state.best
    tuned = spec.frozen_epochs and spec.fine_tune_epochs
    if tuned and best is not None and best.phase == FROZEN:
        if FINE_TUNE not in state.seconds:
            return  # finished before it began
        events.note(
            "info",
            f"Fine-tuning did not improve {best.monitor} ({best.value:.4f} before it), "
            "so the weights from before it are published.",
        )
