"""Writes the archive that a user downloads, and proves it before anyone does.

1. One SavedModel with two signatures: `serving_default` takes encoded pictures and
   decodes them with the very function that built the pack; `pixels` takes pictures
   that have the right size already.
2. A clean process, with TensorFlow and nothing of ours, loads it and predicts the
   golden images. What it says must be what the trained model says here.
3. Model, labels, example and the measured difference become one zip, and every member
   is read back.

A model that fails is not published.
"""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from shared.artifacts import remove_tree, sha256_file
from shared.durable_files import fsync_file, fsync_folder
from shared.errors import InternalError, RetryableError, UserError
from shared.training_spec import TrainingSpec
from worker.training import check_export, golden_images
from worker.training.pack import Pack

ARCHIVE = "saved_model.zip"

# Largest difference of a probability between the trained and the reloaded model, in
# float32 on a CPU. Measured: 0 to 4e-7.
PIXELS_LIMIT = 1e-5

_CHECK_SECONDS = 1800
_ERROR_TAIL = 2000
# The earliest time that a zip can tell: equal files give an equal archive.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)

LOAD_EXAMPLE = '''\
"""Says what pictures show: python load_example.py photo.jpg another.png"""
import sys
from pathlib import Path

import tensorflow as tf

model = tf.saved_model.load(str(Path(__file__).parent / "saved_model"))
classify = model.signatures["serving_default"]
for name in sys.argv[1:]:
    answer = classify(image_bytes=tf.constant([Path(name).read_bytes()]))
    label = answer["label"][0].numpy().decode()
    print(f"{name}: {label} ({answer['confidence'][0].numpy():.1%})")
'''


class ExportMismatch(UserError):  # noqa: N818 - the sentence says what happened
    """The reloaded model says something else: trying again would not help."""


@dataclass(frozen=True)
class Export:
    """A proved archive.

    Args:
        archive: The zip file.
        parity: `pixels_max_abs_diff`, `serving_labels_equal`,
            `serving_max_abs_diff`, `golden_images` and `tensorflow`, the version that
            reloaded it.
    """

    archive: Path
    parity: dict[str, Any]


def export_saved_model(
    model: keras.Model,
    pack: Pack,
    spec: TrainingSpec,
    folder: Path,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Export:
    """Writes `saved_model.zip` into `folder` and proves it in a clean process.

    Args:
        model: From pixels to probabilities, with its final weights.
        pack: Gives the classes and the golden images.
        spec: Names the fit.
        folder: This attempt's own scratch folder; emptied first.
        report: Called with finished and all of the four steps.

    Raises:
        ExportMismatch: When the reloaded model says something else.
        RetryableError: When the clean process could not run.
        OSError: When the disk is full.
    """
    if keras.backend.backend() != "tensorflow":
        raise InternalError(
            "SavedModels are written under KERAS_BACKEND=tensorflow. "
            f"Received: {keras.backend.backend()}."
        )
    remove_tree(folder)
    content = folder / "content"
    content.mkdir(parents=True)
    write_saved_model(model, pack.classes, spec, content / "saved_model")
    labels = "\n".join(pack.classes) + "\n"
    (content / "labels.txt").write_text(labels, encoding="utf-8")
    (content / "load_example.py").write_text(LOAD_EXAMPLE, encoding="utf-8")
    report(1, 4)
    golden = golden_images.build_golden_images(model, pack, spec)
    report(2, 4)
    parity = check_in_clean_process(content / "saved_model", golden, folder / "check")
    report(3, 4)
    archive = folder / ARCHIVE
    write_archive(content, archive, {"parity": parity, "classes": pack.classes})
    remove_tree(content)
    remove_tree(folder / "check")
    report(4, 4)
    return Export(archive, parity)


def write_saved_model(
    model: keras.Model, classes: list[str], spec: TrainingSpec, folder: Path
) -> None:
    """Writes the SavedModel with its two signatures.

    Shapes:
        serving_default: `image_bytes` (batch,) string, JPEG or PNG files, to `label`
            (batch,) string, `confidence` (batch,) float32 and `probabilities`
            (batch, classes) float32.
        pixels: `pixels` (batch, size, size, 3) float32 in [0, 255], to the same.
    """
    import tensorflow as tf  # noqa: PLC0415 - only where SavedModels are written

    from worker.decode import decode_image  # noqa: PLC0415

    size = model.input_shape[1]
    labels = tf.constant(list(classes))

    def classify(pixels: Any) -> dict[str, Any]:
        probabilities = model(pixels, training=False)
        return {
            "label": tf.gather(labels, tf.argmax(probabilities, axis=1)),
            "confidence": tf.reduce_max(probabilities, axis=1),
            "probabilities": probabilities,
        }

    def classify_files(image_bytes: Any) -> dict[str, Any]:
        pixels = tf.map_fn(
            lambda encoded: decode_image(encoded, size, spec.fit),
            image_bytes,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
        )
        return classify(tf.cast(pixels, tf.float32))

    picture = tf.TensorSpec((None, size, size, 3), tf.float32, name="pixels")
    file = tf.TensorSpec((None,), tf.string, name="image_bytes")
    module: Any = tf.Module(name="classifier")
    module.model_variables = [variable.value for variable in model.variables]
    module.pixels = tf.function(classify, input_signature=[picture], autograph=False)
    module.files = tf.function(classify_files, input_signature=[file], autograph=False)
    tf.saved_model.save(
        module,
        str(folder),
        signatures={"serving_default": module.files, "pixels": module.pixels},
    )


def check_in_clean_process(
    saved_model: Path, golden: golden_images.GoldenImages, folder: Path
) -> dict[str, Any]:
    """Loads `saved_model` in a process without our code and compares its answers.

    Args:
        saved_model: The SavedModel's folder.
        golden: What the trained model says.
        folder: Scratch folder.

    Returns:
        The entries of `Export.parity`.

    Raises:
        ExportMismatch: When the answers differ by more than the limits.
        RetryableError: When the process failed for another reason.
    """
    golden.write(folder)
    (folder / "saved_model").symlink_to(saved_model.absolute())
    _run_check(folder)
    with np.load(folder / "answers.npz") as answers:
        difference = np.abs(answers["pixels_probabilities"] - golden.probabilities)
        largest = float(difference.max())
        named = answers["bytes_labels"].tolist()
        by_bytes = np.abs(answers["bytes_probabilities"] - golden.probabilities)
        version = str(answers["tensorflow"])
    if not largest <= PIXELS_LIMIT:
        raise ExportMismatch(
            f"The exported model does not predict what the trained one does: a "
            f"probability differs by {largest:.2g}, and {PIXELS_LIMIT:g} is the limit. "
            f"It is not published."
        )
    wrong = golden.list_wrong(named, tolerance=PIXELS_LIMIT)
    if wrong:
        raise ExportMismatch(
            f"The exported model gives another label than the trained one for the same "
            f"file ({', '.join(wrong)}). It is not published."
        )
    return {
        "pixels_max_abs_diff": largest,
        "serving_labels_equal": True,
        "serving_max_abs_diff": float(by_bytes.max()),
        "golden_images": len(named),
        "tensorflow": version,
    }


def write_archive(content: Path, archive: Path, facts: dict[str, Any]) -> None:
    """Zips `content` with a MANIFEST.json, byte for byte the same for the same files.

    Raises:
        OSError: When a member does not read back as it was written.
    """
    names = sorted(
        path.relative_to(content).as_posix()
        for path in content.rglob("*")
        if path.is_file()
    )
    files = {
        name: {
            "sha256": sha256_file(content / name),
            "bytes": (content / name).stat().st_size,
        }
        for name in names
    }
    manifest = json.dumps({"files": files, **facts}, indent=1, sort_keys=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        for name in names:
            with (
                (content / name).open("rb") as source,
                target.open(_member(name), "w", force_zip64=True) as member,
            ):
                shutil.copyfileobj(source, member, 1 << 20)
        target.writestr(_member("MANIFEST.json"), manifest)
    fsync_file(archive)
    fsync_folder(archive.parent)
    with zipfile.ZipFile(archive) as written:
        for name, expected in files.items():
            digest = hashlib.sha256()
            with written.open(name) as member:
                while chunk := member.read(1 << 20):
                    digest.update(chunk)
            if digest.hexdigest() != expected["sha256"]:
                raise OSError(f"{archive.name}: {name} does not read back")


def _run_check(folder: Path) -> None:
    # Isolated mode keeps our folders out of the module path.
    command = [sys.executable, "-I", check_export.__file__, str(folder)]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RetryableError(
            f"The exported model was not reloaded within {_CHECK_SECONDS} seconds."
        ) from error
    if done.returncode < 0:
        raise RetryableError(
            f"The process that reloads the exported model was ended by signal "
            f"{-done.returncode}."
        )
    if not done.returncode:
        return
    sys.stderr.write(done.stderr)
    if done.returncode == check_export.DISK_FULL:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if done.returncode == check_export.NO_MEMORY:
        raise RetryableError(
            "The machine's memory is too small to reload the exported model beside "
            "what else runs here."
        )
    last = done.stderr.strip().splitlines()[-1:] or ["no message"]
    raise ExportMismatch(
        f"The exported model cannot be loaded in a clean process: "
        f"{last[0][:_ERROR_TAIL]} It is not published."
    )


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _ZIP_TIME)
    info.external_attr = 0o644 << 16
    return info
