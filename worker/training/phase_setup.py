"""Builds the two phases and the model to publish, the same way in every process.

A phase always starts from a model built anew from the seed, whether the process has
just trained the phase before or has just been started: that is what makes the border
between phases as exact to resume as any other step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from shared.training_spec import TrainingSpec
from worker import machine_memory
from worker.training import (
    batch_norm,
    build_model,
    determinism,
    fine_tune_start,
    head_start,
    mirrored_views,
    optimizers,
    pass_memory,
    variables,
)
from worker.training.batches import (
    Batches,
    FeatureBatches,
    PixelBatches,
    class_weights,
)
from worker.training.best_weights import BestWeights
from worker.training.pack import Pack
from worker.training.phases import Phase
from worker.training.replicas import Replicas, find_replicas, has_accelerator
from worker.training.train_step import TrainStep
from worker.training.training_state import EVALUATE, FINE_TUNE, FROZEN, TrainingState

# Images per forward pass where nothing is learned; larger gains nothing on two cores.
_FEATURES_PER_PASS = 1024
_SMALLEST_PROBABILITY = 1e-7  # as in Keras's own cross-entropy


@dataclass(frozen=True)
class Material:
    """What every phase is made from.

    Args:
        spec: The training spec.
        pack: The dataset at the spec's image size.
        weights_dirs: Folders searched for weight files.
        makers: Threads that make augmented batches ahead.
        download_weights: Whether absent ImageNet weights may be fetched.
    """

    spec: TrainingSpec
    pack: Pack
    weights_dirs: list[Path]
    makers: int
    download_weights: bool = True


def build_frozen(
    material: Material,
    views: list[np.ndarray],
    draw_from: Callable[[int], list[np.ndarray]] | None = None,
    *,
    rate_share: float = 1.0,
) -> Phase:
    """Returns the phase that trains the head alone, on cached features.

    Args:
        material: What every phase is made from.
        views: Those of the epoch that is trained first.
        draw_from: Returns those of each epoch. Defaults to `views` for all.
        rate_share: Share of the spec's learning rate that it learns at.

    Shapes:
        views: one array (n, features) float32 per view, rows as in the pack.
    """
    spec, pack = material.spec, material.pack
    determinism.start_model(spec.seed)
    head = build_model.build_head(spec, views[0].shape[1], len(pack.classes))

    def start() -> None:
        if spec.head_start == "logistic":
            head_start.start_at_regression(
                head,
                views,
                pack.labels,
                train=pack.splits["train"],
                held_out=pack.splits["val"],
                seed=spec.seed,
                class_weights=_class_weights(material),
            )

    train = FeatureBatches(views, draw_from, **_training_split(material))
    held_out = FeatureBatches(
        views[:1], **_held_out_split(material, _FEATURES_PER_PASS)
    )
    steps = len(train) * spec.frozen_epochs
    peak = spec.frozen_learning_rate * rate_share
    _compile(head, spec, peak, steps)
    # A head on features is small: one device, and one pass a step, are the fastest.
    step = TrainStep(head, images_per_pass=train.images_per_step, replicas=Replicas())
    return Phase(
        name=FROZEN,
        next_name=FINE_TUNE if spec.fine_tune_epochs else EVALUATE,
        model=head,
        step=step,
        train=train,
        validate=_validation(step, held_out),
        epochs=spec.frozen_epochs,
        first_epoch=0,
        makers=0,
        start=start,
    )


def share_of_rate(state: TrainingState, phase: str) -> float:
    """Returns the share of the spec's learning rate that is left to `phase`.

    It is halved for each attempt that the phase has ended by diverging.
    """
    return 0.5 ** state.facts.get("rate_halvings", {}).get(phase, 0)


def build_fine_tune(
    material: Material, state: TrainingState, best: BestWeights
) -> Phase:
    """Returns the phase that trains the unfrozen base together with the head.

    Args:
        material: What every phase is made from.
        state: Says whether the best weights are the frozen phase's.
        best: What the phase starts from, if they are.
    """
    spec, replicas = material.spec, find_replicas()
    norms = spec.batch_norm == "trained"
    base, head, model = _build_joined(material, replicas, norms=norms)
    # In the middle of this phase the best may already be its own; the checkpoint's
    # arrays then replace every variable.
    if state.best is not None and state.best.phase == FROZEN:
        variables.write(head.weights, best.weights)
    build_model.set_trainable_from(base, spec.unfreeze_from, norms=norms)
    train, held_out = _build_pixel_batches(material)
    steps = len(train) * spec.fine_tune_epochs
    with replicas.scope():
        peak = spec.fine_tune_learning_rate * share_of_rate(state, FINE_TUNE)
        _compile(model, spec, peak, steps)
    images_per_pass = min(spec.batch_size, train.images_per_step)
    step = TrainStep(model, images_per_pass=images_per_pass, replicas=replicas)
    start = fine_tune_start.prepare_start(
        spec,
        material.pack,
        base,
        head,
        step=step,
        replicas=replicas,
        class_weights=_class_weights(material),
    )
    return Phase(
        name=FINE_TUNE,
        next_name=EVALUATE,
        model=model,
        step=step,
        train=train,
        validate=_validation(step, held_out),
        epochs=spec.fine_tune_epochs,
        first_epoch=spec.frozen_epochs,
        makers=material.makers,
        start=start if norms else _nothing,
        least_halvings=_plan_halvings(spec, base, images_per_pass),
        may_compile=_may_compile(state),
    )


def _nothing() -> None:
    """What a phase starts with whose model is ready as it is built."""


def _build_pixel_batches(material: Material) -> tuple[PixelBatches, PixelBatches]:
    spec, pixels = material.spec, material.pack.pixels
    train = PixelBatches(
        pixels,
        augmentation=spec.augmentation,
        mixup=spec.mixup,
        cutmix=spec.cutmix,
        **_training_split(material),
    )
    held_out = PixelBatches(pixels, **_held_out_split(material, spec.batch_size))
    return train, held_out


def _plan_halvings(spec: TrainingSpec, base: keras.Model, images_per_pass: int) -> int:
    if has_accelerator():
        return 0  # its memory answers for itself
    return pass_memory.count_halvings(
        base,
        first_trained=build_model.find_first_trained(base, spec.unfreeze_from),
        images_per_pass=images_per_pass,
        limit_bytes=machine_memory.find_memory_limit(),
    )


def _may_compile(state: TrainingState) -> bool:
    return (
        keras.backend.backend() == "tensorflow"
        and has_accelerator()
        and not state.facts.get("deterministic")
    )


def build_best(
    material: Material, state: TrainingState, best: BestWeights
) -> keras.Model:
    """Returns the whole model with the weights to publish."""
    _, head, model = _build_joined(material, Replicas())
    assert state.best is not None
    trained = head if state.best.phase == FROZEN else model
    variables.write(trained.weights, best.weights)
    if material.spec.test_time_augmentation:
        return mirrored_views.average_over_mirrors(model, material.spec.augmentation)
    return model


def build_untrained(material: Material) -> keras.Model:
    """Returns the whole model with a new head, one view of a picture at a time."""
    return _build_joined(material, Replicas())[2]


def _build_joined(
    material: Material, replicas: Replicas, *, norms: bool = False
) -> tuple[keras.Model, keras.Model, keras.Model]:
    determinism.start_model(material.spec.seed)
    base = build_model.build_base(
        material.spec,
        material.weights_dirs,
        download_weights=material.download_weights,
        replicas=replicas,
    )
    if norms:
        base = batch_norm.let_learn(base, replicas)
    with replicas.scope():
        head = build_model.build_head(
            material.spec, base.output_shape[-1], len(material.pack.classes)
        )
    return base, head, build_model.join(base, head)


def _training_split(material: Material) -> dict[str, Any]:
    spec, pack = material.spec, material.pack
    return {
        "labels": pack.labels,
        "rows": pack.splits["train"],
        "classes": len(pack.classes),
        "batch_size": spec.batch_size * spec.gradient_accumulation_steps,
        "seed": spec.seed,
        "shuffle": True,
        "class_weights": _class_weights(material),
    }


def _class_weights(material: Material) -> np.ndarray | None:
    pack = material.pack
    if material.spec.class_weights == "none":
        return None
    return class_weights(pack.labels[pack.splits["train"]], len(pack.classes))


def _held_out_split(material: Material, batch_size: int) -> dict[str, Any]:
    pack = material.pack
    return {
        "labels": pack.labels,
        "rows": pack.splits["val"],
        "classes": len(pack.classes),
        "batch_size": batch_size,
        "seed": material.spec.seed,
        "shuffle": False,
    }


def _validation(step: TrainStep, held_out: Batches) -> Callable[[], dict[str, float]]:
    """Plain cross-entropy and accuracy: no smoothing, no class weights.

    So the numbers of both phases, and of two specs, can be compared.
    """

    def validate() -> dict[str, float]:
        losses, hits = [], []
        for index in range(len(held_out)):
            inputs, labels = held_out[index]
            guesses = step.predict(inputs)
            truths = np.sum(guesses * labels, axis=1, dtype=np.float64)
            losses.append(-np.log(np.maximum(truths, _SMALLEST_PROBABILITY)))
            hits.append(np.argmax(guesses, axis=1) == np.argmax(labels, axis=1))
        images = len(held_out.rows)  # the last batch is filled up with first rows
        return {
            "val_loss": float(np.mean(np.concatenate(losses)[:images])),
            "val_accuracy": float(np.mean(np.concatenate(hits)[:images])),
        }

    return validate


def _compile(model: keras.Model, spec: TrainingSpec, peak: float, steps: int) -> None:
    model.compile(
        optimizer=optimizers.build_optimizer(spec, model, peak=peak, steps=steps),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=spec.label_smoothing),
    )
