"""The pictures on which the exported model must agree with the trained one.

Real files of the training split (the test split is touched once, elsewhere), and two
made from one of them that trip careless decoders: a JPEG that is turned by its EXIF
orientation, and a grey JPEG.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from shared.training_spec import TrainingSpec
from worker.training.pack import Pack

_FROM_DATASET = 14
_EXIF_ORIENTATION = 0x0112
_TURNED_RIGHT = 6  # to be shown upright, turn the stored picture right by 90 degrees


@dataclass(frozen=True)
class GoldenImages:
    """Golden pictures with what the trained model says about each.

    Args:
        names: What each is, for a person.
        files: The encoded pictures, JPEG or PNG.
        pixels: What the decode function makes of them.
        probabilities: What the trained model says.
        classes: Class names by number.

    Shapes:
        pixels: (n, size, size, 3) float32 in [0, 255].
        probabilities: (n, classes) float32.
    """

    names: list[str]
    files: list[bytes]
    pixels: np.ndarray
    probabilities: np.ndarray
    classes: list[str]

    def write(self, folder: Path) -> None:
        """Writes the files and `golden.npz` for the process that checks."""
        (folder / "golden").mkdir(parents=True)
        for number, file in enumerate(self.files):
            (folder / "golden" / f"{number:04d}").write_bytes(file)
        np.savez(folder / "golden.npz", pixels=self.pixels)

    def list_wrong(self, labels: list[str], *, tolerance: float) -> list[str]:
        """Returns the names of the pictures for which `labels` says something else.

        A label whose probability is within `tolerance` of the largest is as right: of
        two equal numbers either may come first.
        """
        wrong = []
        for name, label, says in zip(
            self.names, labels, self.probabilities, strict=True
        ):
            number = self.classes.index(label) if label in self.classes else None
            if number is None or says[number] < says.max() - tolerance:
                wrong.append(name)
        return wrong


def build_golden_images(
    model: keras.Model, pack: Pack, spec: TrainingSpec
) -> GoldenImages:
    """Picks and makes the golden pictures and asks the trained model about them.

    Args:
        model: From pixels to probabilities.
        pack: Its training split is drawn from.
        spec: Names the fit.
    """
    import tensorflow as tf  # noqa: PLC0415 - only where SavedModels are written

    from worker.decode import decode_image  # noqa: PLC0415

    rows = np.asarray(pack.splits["train"])
    rows = rows[
        np.linspace(0, len(rows) - 1, min(_FROM_DATASET, len(rows))).astype(int)
    ]
    images = pack.dataset.describe(rows)
    names = [image.name for image in images]
    files = [image.read() for image in images]
    upright = decode_oblong(files[0])
    names += [f"{names[0]}, turned by EXIF", f"{names[0]}, grey"]
    files += [encode_turned(upright), encode_grey(upright)]
    # On the CPU, where the clean process computes too.
    with tf.device("CPU:0"):
        decoded = [
            decode_image(tf.constant(file), pack.image_size_px, spec.fit).numpy()
            for file in files
        ]
        pixels = np.stack(decoded).astype(np.float32)
        # As one graph, which lets go of each layer's output as soon as it can.
        classify: Any = tf.function(model, autograph=False)
        probabilities = classify(pixels, training=False).numpy()
    return GoldenImages(names, files, pixels, probabilities, list(pack.classes))


def decode_oblong(file: bytes) -> Image.Image:
    """Returns the picture as RGB, cut where it is square.

    A turned square would look upright to whoever compares shapes.
    """
    image = Image.open(io.BytesIO(file)).convert("RGB")
    width, height = image.size
    if width == height and width > 1:
        image = image.crop((0, 0, max(1, width * 3 // 4), height))
    return image


def encode_turned(upright: Image.Image) -> bytes:
    """Returns a JPEG that is stored lying and says so in its EXIF block."""
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = _TURNED_RIGHT
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    buffer = io.BytesIO()
    stored.save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def encode_grey(upright: Image.Image) -> bytes:
    """Returns a JPEG with one channel."""
    buffer = io.BytesIO()
    upright.convert("L").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
