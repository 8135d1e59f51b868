"""Gets everything ready that training is made from: pixels, features, facts."""

from dataclasses import replace
from typing import Any

import numpy as np

from shared.base_models import resolve_image_size_px
from shared.errors import UserError
from shared.training_spec import TrainingSpec
from worker import events
from worker.training import (
    augmentation_choice,
    build_model,
    determinism,
    features,
    pack,
    versions,
)
from worker.training.augmentation_choice import Choice
from worker.training.background_writer import BackgroundWriter
from worker.training.checkpoint import CheckpointWriter
from worker.training.engine_choice import describe_choice
from worker.training.feature_engines import Origin
from worker.training.features import Features
from worker.training.frozen_base import FrozenBase
from worker.training.phase_setup import Material
from worker.training.request import Request
from worker.training.stop_requests import StopRequests
from worker.training.training_state import TrainingState

_MOST_MAKERS = 8


def prepare(request: Request, state: TrainingState) -> Material:
    """Fixes randomness and opens the dataset at the spec's image size.

    Args:
        request: What was asked for.
        state: A resumed one names the thread count to repeat.

    Raises:
        UserError: When there is nothing to train on.
    """
    spec = request.training
    cores = determinism.count_cores()
    threads = state.facts.get("threads") or request.threads or cores
    state.facts["deterministic"] = determinism.fix_randomness(
        threads=threads, deterministic=spec.deterministic
    )
    state.facts["threads"] = threads
    images = pack.read_dataset(request.dataset, request.caches)
    events.stage("dataset")
    for split in ("train", "val", "test"):
        if len(images.splits[split]) == 0:
            raise UserError(
                f"The dataset has no images in its {split} split.", field="dataset"
            )
    opened = pack.open_or_build_pack(
        images,
        image_size_px=resolve_image_size_px(spec.base_model, spec.image_size_px),
        fit=spec.fit,
        caches=request.caches,
        report=_durable("pack", "images"),
    )
    events.stage("pack")
    makers = max(1, min(_MOST_MAKERS, cores // 2))
    return Material(
        spec,
        opened,
        request.weights_dirs,
        makers,
        download_weights=request.download_weights,
    )


def is_same_dataset(material: Material, state: TrainingState) -> bool:
    """Whether a resumed state was trained on this very dataset; says so if not."""
    if state.facts.get("fingerprint") == material.pack.fingerprint:
        return True
    events.note(
        "warning",
        "The dataset has changed since the checkpoint was written, so training "
        "starts from the beginning.",
    )
    return False


def note_facts(request: Request, material: Material, state: TrainingState) -> None:
    """Writes into the state what this and every later attempt must repeat.

    The dataset it is trained on; what computes here, which the next attempt compares;
    and, for each attempt that the kernel has killed for lack of memory since, one more
    halving of what goes through the network at once.
    """
    state.facts["fingerprint"] = material.pack.fingerprint
    versions.note_machine(state)
    known = state.facts.get("memory_kills", 0)
    if request.memory_kills <= known:
        return
    halvings = state.facts.get("halvings", 0) + request.memory_kills - known
    state.facts |= {"halvings": halvings, "memory_kills": request.memory_kills}
    events.note(
        "warning",
        "The machine ran out of memory in an earlier attempt, so images go through the "
        f"network in {2**halvings} parts of a batch or more from here on.",
    )


def open_views(
    request: Request, material: Material, state: TrainingState, stops: StopRequests
) -> list[np.ndarray]:
    """Returns the cached features of every view, computing what is missing.

    The first checkpoint carries what computed them, and a later attempt asks for the
    same and measures nothing, because two engines differ in the last bits.
    """
    spec = material.spec
    base = FrozenBase(
        spec, request.weights_dirs, download_weights=request.download_weights
    )
    if spec.fine_tune_epochs and isinstance(spec.unfreeze_from, str):
        # A wrong name is said now, not when the frozen phase has been paid for.
        build_model.find_first_trained(base.build(), spec.unfreeze_from)
    known = state.facts.get("features")
    first: Features | None = None
    if spec.augmentation.measured:
        plain = spec.model_copy(update={"feature_views": 1})
        first = _open(request, material, base, plain, state, stops)
        _choose_augmentation(request, material, base, first, state)
        spec = settle(material, state).spec
    computed = _open(request, material, base, spec, state, stops)
    _tell_features(material, computed, known, first or computed)
    state.facts["origins"] = [origin.to_json() for origin in computed.origins]
    state.facts["features"] = computed.digest
    return computed.views


def settle(material: Material, state: TrainingState) -> Material:
    """Returns `material` with the augmentation that was measured, if it was.

    A later attempt repeats it and measures nothing.
    """
    fields = state.facts.get("augmentation")
    if not fields:
        return material
    chosen = Choice.from_json(fields).augmentation
    spec = material.spec.model_copy(update={"augmentation": chosen})
    return replace(material, spec=spec)


def _choose_augmentation(
    request: Request,
    material: Material,
    base: FrozenBase,
    plain: Features,
    state: TrainingState,
) -> None:
    """Writes into the state which changes do no harm; see `augmentation_choice`."""
    if state.facts.get("augmentation"):
        return
    spec, pack = material.spec, material.pack
    name = augmentation_choice.name_file(
        pack, base.identity, spec, precision=plain.origins[0].precision
    )
    choice = augmentation_choice.find_stored(request.engines / name)
    if choice is None:
        engine = features.open_engine(
            pack,
            base,
            plain.origins[0],
            engines=request.engines,
            cores=state.facts["threads"],
        )
        choice = augmentation_choice.choose(
            pack,
            plain.views[0],
            spec.augmentation,
            compute=engine.compute,
            seed=spec.seed,
            report=lambda done, total: events.progress(
                "prepare", done, total, "changed images"
            ),
        )
        augmentation_choice.store(request.engines / name, choice)
    state.facts["augmentation"] = choice.to_json()
    events.note("info", choice.describe())


def _open(  # noqa: PLR0917 - the order in which they are used
    request: Request,
    material: Material,
    base: FrozenBase,
    spec: TrainingSpec,
    state: TrainingState,
    stops: StopRequests,
) -> Features:
    return features.open_or_compute_features(
        material.pack,
        base,
        spec,
        request.caches,
        _durable("features", "shards"),
        lambda: stops.stop,
        origins=_read_origins(state, spec),
        engines=request.engines,
        cores=state.facts.get("threads"),
        exact=state.facts.get("deterministic", True),
    )


def _read_origins(state: TrainingState, spec: TrainingSpec) -> list[Origin] | None:
    found = [Origin.from_json(fields) for fields in state.facts.get("origins", [])]
    known = [origin for origin in found if origin is not None][: spec.feature_views]
    return known if len(known) == spec.feature_views else None


def _tell_features(
    material: Material, computed: Features, known: str | None, first: Features
) -> None:
    """Says where the features came from, and what chose the engine if anything did.

    Args:
        material: The dataset.
        computed: All views.
        known: Digest of the features that this training began with.
        first: What was computed before the rest: view 0, or all views at once.
    """
    if known not in (None, computed.digest):
        events.note(
            "warning",
            "This machine computes features differently from the one that began this "
            "training; the result is as good, but not the same to the bit.",
        )
    # Views that this very attempt computed a moment ago were not found.
    own = 0 if first is computed else len(first.views) - first.found
    there = computed.found - own
    if known is None and there:
        pictures, views = len(material.pack.pixels), len(computed.views)
        found = f"{views}" if there == views else f"{there} of {views}"
        plural = "s" if views > 1 else ""
        starts = ": training starts at once" if there == views else ""
        events.note(
            "info",
            f"Found the features of {pictures:,} pictures x {found} view{plural}, "
            f"computed before{starts}.",
        )
    measured = first.measured or computed.measured
    if measured:
        events.note("info", describe_choice(measured))


def build_writer(request: Request) -> BackgroundWriter:
    """Returns what writes this attempt's checkpoints."""
    facts = {
        "spec_sha": request.spec_sha,
        "fence": request.job.get("fence"),
        "versions": versions.list_versions(),
    }
    folder = request.workdir / "ckpt"
    writer = CheckpointWriter(folder, facts, prune=request.runs_alone)
    return BackgroundWriter(writer)


def _durable(what: str, unit: str) -> Any:
    def report(done: int, total: int) -> None:
        events.emit("durable", what=what, done=done, total=total)
        events.progress("prepare", done, total, unit)

    return report
