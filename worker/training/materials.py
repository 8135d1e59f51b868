"""Gets ready what every phase is made from: the pixels, the facts, the checkpoints."""

from dataclasses import replace

from shared.base_models import resolve_image_size_px
from shared.errors import UserError
from worker import events
from worker.training import determinism, pack, versions
from worker.training.augmentation_choice import Choice
from worker.training.background_writer import BackgroundWriter
from worker.training.checkpoint import CheckpointWriter
from worker.training.phase_setup import Material
from worker.training.request import Request
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
        report=lambda done, total: events.durable("pack", done, total, "images"),
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
    # Of each phase: the learning rate is halved as often. A checkpoint may hold a rate
    # that was halved less often by then.
    state.facts["saved_rate_halvings"] = state.facts.get("rate_halvings", {})
    state.facts["rate_halvings"] = dict(request.divergences)
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
