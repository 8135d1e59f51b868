"""Trains the same frozen network the usual way: `a|b REQUEST.json`.

`a` is Keras's old `ImageDataGenerator.flow_from_directory`, `b` its newer
`image_dataset_from_directory` with augmentation layers, mapped and prefetched as the
guides on keras.io do it. Both end in `model.fit`, with Keras's own callbacks only, and
speak the engine's event language: `clock` when the imports are over, then `metrics`
after every epoch and its validation.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker import events
from worker.training import determinism

# Training batches, validation batches, and how many of the former make an epoch.
Source = tuple[Any, Any, int]


def main(arguments: list[str]) -> int:
    """Runs one contender to the end of its epochs."""
    name, request = arguments[0], json.loads(Path(arguments[1]).read_text())
    events.take_over_stdout()
    determinism.prepare_environment()
    import_all()
    events.emit("clock")
    # What is counted begins here: listing, decoding and building as much as training.
    train, validation, steps = {"a": open_generator, "b": open_dataset}[name](request)
    model = build(request, steps * request["epochs"])
    model.fit(
        train,
        validation_data=validation,
        epochs=request["epochs"],
        callbacks=[report_epochs()],
        verbose=0,
    )
    return 0


def import_all() -> None:
    """Imports what the contenders use; nothing of it runs."""
    import PIL.Image  # noqa: F401, PLC0415
    import scipy.ndimage  # noqa: F401, PLC0415
    import tensorflow as tf  # noqa: F401, PLC0415
    from keras._tf_keras.keras.preprocessing import image  # noqa: F401, PLC0415

    from worker.training import build_model, optimizers  # noqa: F401, PLC0415


def open_generator(request: dict[str, Any]) -> Source:
    """Opens the folder with `ImageDataGenerator`."""
    from keras._tf_keras.keras.preprocessing.image import (  # noqa: PLC0415
        ImageDataGenerator,
    )

    bounds = request["training"]["augmentation"]
    changing = ImageDataGenerator(
        horizontal_flip=bounds["horizontal_flip"],
        vertical_flip=bounds["vertical_flip"],
        rotation_range=bounds["rotation"],
        zoom_range=bounds["zoom"],
        width_shift_range=bounds["shift"],
        height_shift_range=bounds["shift"],
        brightness_range=(1 - bounds["brightness"], 1 + bounds["brightness"]),
        fill_mode="reflect",
    )
    side = request["image_size_px"]
    options = {
        "target_size": (side, side),
        "batch_size": request["training"]["batch_size"],
        "class_mode": "categorical",
        "interpolation": "bilinear",
    }
    folder = Path(request["dataset"])
    train = changing.flow_from_directory(
        folder / "train", seed=request["training"]["seed"], **options
    )
    validation = ImageDataGenerator().flow_from_directory(
        folder / "val", shuffle=False, **options
    )
    return train, validation, len(train)


def open_dataset(request: dict[str, Any]) -> Source:
    """Opens the folder with `image_dataset_from_directory`."""
    import keras  # noqa: PLC0415
    import tensorflow as tf  # noqa: PLC0415

    seed = request["training"]["seed"]
    side = request["image_size_px"]
    options = {
        "label_mode": "categorical",
        "image_size": (side, side),
        "batch_size": request["training"]["batch_size"],
    }
    folder = Path(request["dataset"])
    keras.utils.set_random_seed(seed)
    train: Any = keras.utils.image_dataset_from_directory(
        folder / "train", seed=seed, **options
    )
    validation: Any = keras.utils.image_dataset_from_directory(
        folder / "val", shuffle=False, **options
    )
    changes = build_changes(request["training"]["augmentation"])
    steps = len(train)
    changed = train.map(
        lambda images, labels: (changes(images, training=True), labels),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return (
        changed.prefetch(tf.data.AUTOTUNE),
        validation.prefetch(tf.data.AUTOTUNE),
        steps,
    )


def build_changes(bounds: dict[str, Any]) -> Callable[..., Any]:
    """Returns Keras's augmentation layers for the spec's `augmentation`."""
    import keras  # noqa: PLC0415

    zoom, shift = bounds["zoom"], bounds["shift"]
    found = [
        keras.layers.RandomRotation(bounds["rotation"] / 360),
        keras.layers.RandomZoom((-zoom, zoom), (-zoom, zoom)),
        keras.layers.RandomTranslation(shift, shift),
        keras.layers.RandomBrightness(bounds["brightness"], value_range=(0, 255)),
    ]
    if bounds["horizontal_flip"]:
        found.insert(0, keras.layers.RandomFlip("horizontal"))
    if bounds["vertical_flip"]:
        found.insert(0, keras.layers.RandomFlip("vertical"))
    return keras.Sequential(found)


def build(request: dict[str, Any], steps: int) -> Any:
    """Builds the engine's own frozen base and head, joined, with its own optimizer."""
    from shared.training_spec import parse_training_spec  # noqa: PLC0415
    from worker.training import build_model, optimizers  # noqa: PLC0415

    spec = parse_training_spec(request["training"])
    base = build_model.build_base(spec)
    head = build_model.build_head(spec, base.output_shape[-1], request["classes"])
    model = build_model.join(base, head)
    # Averaged weights are the engine's own doing: `fit` would validate without them.
    plain = spec.model_copy(update={"weight_averaging": 0.0})
    optimizer = optimizers.build_optimizer(
        plain, model, peak=spec.frozen_learning_rate, steps=steps
    )
    # Keras would choose XLA, which on a CPU is many times slower here.
    jit: Any = "auto" if request["has_gpu"] else False
    model.compile(
        optimizer=optimizer,
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=jit,
    )
    return model


def report_epochs() -> Any:
    """Returns a callback that tells each epoch's end with its validation accuracy."""
    import keras  # noqa: PLC0415

    def report(epoch: int, logs: dict[str, Any]) -> None:
        accuracy = float(logs["val_accuracy"])
        events.emit("metrics", epoch=epoch, values={"val_accuracy": accuracy})

    return keras.callbacks.LambdaCallback(on_epoch_end=report)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
