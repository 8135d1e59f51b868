"""Turns the best weights into the result that the supervisor publishes.

`final/` is written like a checkpoint: a new folder, a manifest, one rename. A run that
is killed before the rename evaluates and exports again, which gives the same files; one
that is killed after it finds them here and only says so again.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from shared import artifacts
from shared.training_spec import TrainingSpec
from worker import events
from worker.training import versions
from worker.training.evaluate import evaluate
from worker.training.export_saved_model import ARCHIVE, export_saved_model
from worker.training.labelled_images import read_dataset
from worker.training.materials import Material
from worker.training.model_card import write_model_card
from worker.training.request import Request
from worker.training.training_state import (
    EVALUATE,
    EXPORT,
    FINE_TUNE,
    FROZEN,
    Stopwatch,
    TrainingState,
)


def find_published(request: Request) -> bool:
    """Whether this attempt's folder holds the finished result; reports it if so.

    A result of another spec or of another dataset is removed: it is the answer to
    another question.
    """
    final = request.workdir / "final"
    if not final.exists():
        return False
    try:
        facts = artifacts.verify_manifest(final)
    except artifacts.CorruptFolderError as error:
        events.note("warning", f"A damaged result is made anew: {error}")
        facts = {}
    if not _answers(facts, request):
        artifacts.remove_tree(final)
        return False
    _report(final, facts)
    return True


def tell_which_phase_won(spec: TrainingSpec, state: TrainingState) -> None:
    """Leaves a note when no epoch of fine-tuning helped: its weights are discarded."""
    best = state.best
    if best is not None and best.phase == FROZEN and FINE_TUNE in state.seconds:
        events.note(
            "info",
            f"No epoch of fine-tuning improved {spec.monitor} ({best.value:.4f} before "
            "it), so the weights from before it are published.",
        )


def publish(
    request: Request,
    material: Material,
    model: keras.Model,
    state: TrainingState,
    stopwatch: Stopwatch,
) -> None:
    """Evaluates and exports `model`, and publishes `WORKDIR/final`.

    Args:
        request: What was asked for.
        material: What the model was trained from; its test split is read here.
        model: The whole model with the weights to publish.
        state: Where training ended.
        stopwatch: Runs in the evaluation.

    Raises:
        ExportMismatch: When the reloaded SavedModel says something else.
    """
    events.phase(EVALUATE)
    pack, spec = material.pack, material.spec
    evaluation = evaluate(
        model,
        pack,
        spec,
        _progress(EVALUATE, "images"),
        halvings=state.facts.get("halvings", 0),
    )
    stopwatch.switch(EXPORT)
    events.phase(EXPORT)
    scratch = request.workdir / "export"
    exported = export_saved_model(
        model, pack, spec, scratch, _progress(EXPORT, "steps")
    )
    stopwatch.lap()
    temporary = request.workdir / f".tmp-final-{secrets.token_hex(4)}"
    temporary.mkdir()
    exported.archive.rename(temporary / ARCHIVE)
    artifacts.remove_tree(scratch)
    evaluation.write(
        temporary,
        parity=exported.parity,
        seconds=state.seconds,
        checkpoint_stall=round(state.checkpoint_stall, 5),
    )
    facts = _describe(request, state, evaluation.summary)
    write_model_card(
        temporary / "model_card.md",
        title=request.job.get("model_name") or "Image classifier",
        spec=spec,
        fingerprint=pack.fingerprint,
        evaluation=evaluation.summary | {"parity": exported.parity},
        best=facts["summary"]["best"],
        seconds=state.seconds,
        versions=facts["versions"],
    )
    artifacts.write_manifest(temporary, **facts)
    final = request.workdir / "final"
    artifacts.publish_folder(temporary, final)
    _report(final, facts)


def _answers(facts: dict[str, Any], request: Request) -> bool:
    if facts.get("spec_sha") != request.spec_sha:
        return False
    return facts.get("fingerprint") == read_dataset(request.dataset).fingerprint


def _describe(
    request: Request, state: TrainingState, numbers: dict[str, Any]
) -> dict[str, Any]:
    """Returns what the manifest tells beside the files."""
    best = state.best
    assert best is not None
    return {
        "step": state.step,
        "fence": request.job.get("fence"),
        "phase": EXPORT,
        "epoch": best.epoch,
        "batch": 0,
        "spec_sha": request.spec_sha,
        "fingerprint": state.facts["fingerprint"],
        "versions": versions.list_versions(),
        "summary": {
            "accuracy": numbers["accuracy"],
            "interval": numbers["interval"],
            "loss": numbers["loss"],
            "images": numbers["images"],
            "best": {
                "phase": best.phase,
                "step": best.step,
                "monitor": best.monitor,
                "value": best.value,
            },
            "seconds": dict(state.seconds),
        },
    }


def _report(final: Path, facts: dict[str, Any]) -> None:
    """Says that the result is there: as the last checkpoint, and as the end."""
    common = {
        "step": facts["step"],
        "path": str(final.absolute()),
        "manifest_sha": artifacts.sha256_file(final / artifacts.MANIFEST),
        "bytes": artifacts.measure_tree(final),
    }
    summary = facts["summary"]
    events.emit("checkpoint", kind="final", metric=summary["best"]["value"], **common)
    events.emit("finished", summary=summary, **common)


def _progress(phase: str, unit: str) -> Callable[[int, int], None]:
    return lambda done, total: events.progress(phase, done, total, unit)
