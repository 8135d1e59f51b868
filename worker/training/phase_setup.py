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

from shared.training_spec import LearningRateSchedule, Optimizer, TrainingSpec
from worker.training import build_model, determinism, variables
from worker.training.batches import (
    Batches,
    FeatureBatches,
    PixelBatches,
    class_weights,
)
from worker.training.best_weights import BestWeights
from worker.training.pack import Pack
from worker.training.phases import Phase
from worker.training.training_state import EVALUATE, FINE_TUNE, FROZEN, TrainingState

# Images per forward pass where nothing is learned; larger gains nothing on two cores.
_FEATURES_PER_PASS = 1024
_SMALLEST_PROBABILITY = 1e-7  # as in Keras's own cross-entropy
_WARM_UP_SHARE = 0.05
_WARM_UP_FROM = 0.1  # of the peak rate; 0 would waste the first step
_SGD_MOMENTUM = 0.9


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


def build_frozen(material: Material, views: list[np.ndarray]) -> Phase:
    """Returns the phase that trains the head alone, on cached features.

    Shapes:
        views: one array (n, features) float32 per view, rows as in the pack.
    """
    spec, pack = material.spec, material.pack
    determinism.start_model(spec.seed)
    head = build_model.build_head(spec, views[0].shape[1], len(pack.classes))
    train = FeatureBatches(views, **_training_split(material))
    held_out = FeatureBatches(
        views[:1], **_held_out_split(material, _FEATURES_PER_PASS)
    )
    steps = len(train) * spec.frozen_epochs
    _compile(head, spec, spec.frozen_learning_rate, steps)
    return Phase(
        name=FROZEN,
        next_name=FINE_TUNE if spec.fine_tune_epochs else EVALUATE,
        model=head,
        train=train,
        validate=_validation(head, held_out),
        epochs=spec.frozen_epochs,
        first_epoch=0,
        makers=0,
    )


def build_fine_tune(
    material: Material, state: TrainingState, best: BestWeights
) -> Phase:
    """Returns the phase that trains the unfrozen base together with the head.

    Args:
        material: What every phase is made from.
        state: Says whether the best weights are the frozen phase's.
        best: What the phase starts from, if they are.
    """
    spec, pack = material.spec, material.pack
    base, head, model = _build_joined(material)
    # In the middle of this phase the best may already be its own; the checkpoint's
    # arrays then replace every variable.
    if state.best is not None and state.best.phase == FROZEN:
        variables.write(head.weights, best.weights)
    build_model.set_trainable_from(base, spec.unfreeze_from)
    train = PixelBatches(
        pack.pixels, augmentation=spec.augmentation, **_training_split(material)
    )
    held_out = PixelBatches(pack.pixels, **_held_out_split(material, spec.batch_size))
    steps = len(train) * spec.fine_tune_epochs
    _compile(model, spec, spec.fine_tune_learning_rate, steps)
    return Phase(
        name=FINE_TUNE,
        next_name=EVALUATE,
        model=model,
        train=train,
        validate=_validation(model, held_out),
        epochs=spec.fine_tune_epochs,
        first_epoch=spec.frozen_epochs,
        makers=material.makers,
    )


def build_best(
    material: Material, state: TrainingState, best: BestWeights
) -> keras.Model:
    """Returns the whole model with the weights to publish."""
    _, head, model = _build_joined(material)
    assert state.best is not None
    trained = head if state.best.phase == FROZEN else model
    variables.write(trained.weights, best.weights)
    return model


def _build_joined(
    material: Material,
) -> tuple[keras.Model, keras.Model, keras.Model]:
    determinism.start_model(material.spec.seed)
    base = build_model.build_base(
        material.spec,
        material.weights_dirs,
        download_weights=material.download_weights,
    )
    head = build_model.build_head(
        material.spec, base.output_shape[-1], len(material.pack.classes)
    )
    return base, head, build_model.join(base, head)


def _training_split(material: Material) -> dict[str, Any]:
    spec, pack = material.spec, material.pack
    rows = pack.splits["train"]
    weights = None
    if spec.class_weights == "balanced":
        weights = class_weights(pack.labels[rows], len(pack.classes))
    return {
        "labels": pack.labels,
        "rows": rows,
        "classes": len(pack.classes),
        "batch_size": spec.batch_size,
        "seed": spec.seed,
        "shuffle": True,
        "class_weights": weights,
    }


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


def _validation(
    model: keras.Model, held_out: Batches
) -> Callable[[], dict[str, float]]:
    """Plain cross-entropy and accuracy: no smoothing, no class weights.

    So the numbers of both phases, and of two specs, can be compared.
    """

    def validate() -> dict[str, float]:
        losses, hits = [], []
        for index in range(len(held_out)):
            inputs, labels = held_out[index]
            guesses = np.asarray(model.predict_on_batch(inputs))
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
    # XLA on a CPU is an order of magnitude slower (measured: 7 images/s to 87).
    jit_compile: Any = "auto" if keras.backend.backend() == "jax" else False
    model.compile(
        optimizer=_build_optimizer(spec.optimizer, _schedule(spec, peak, steps)),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=spec.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=jit_compile,
    )


def _schedule(
    spec: TrainingSpec, peak: float, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """A short warm-up, then a cosine to zero or none: a function of the step alone.

    For a plateau the plain rate: Keras then keeps it in a variable of the optimizer,
    which the end of an epoch may cut and every checkpoint holds.
    """
    if spec.learning_rate_schedule == LearningRateSchedule.PLATEAU:
        return peak
    falls = spec.learning_rate_schedule == LearningRateSchedule.COSINE
    warm_up = max(1, round(steps * _WARM_UP_SHARE))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak * _WARM_UP_FROM,
        decay_steps=max(1, steps - warm_up),
        alpha=0.0 if falls else 1.0,  # the share of the peak that it ends at
        warmup_target=peak,
        warmup_steps=warm_up,
    )


def _build_optimizer(
    optimizer: Optimizer,
    rate: Any,  # Keras annotates its optimizers as taking numbers alone
) -> keras.optimizers.Optimizer:
    # The name is part of the variables' paths, which a checkpoint is checked by.
    name = optimizer.value
    match optimizer:
        case Optimizer.ADAM:
            return keras.optimizers.Adam(rate, name=name)
        case Optimizer.ADAMW:
            return keras.optimizers.AdamW(rate, name=name)
        case Optimizer.SGD:
            return keras.optimizers.SGD(rate, momentum=_SGD_MOMENTUM, name=name)
        case Optimizer.RMSPROP:
            return keras.optimizers.RMSprop(rate, name=name)
