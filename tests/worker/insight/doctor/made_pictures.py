"""Small made datasets for the doctor's tests: textures, one per picture."""

import io

import cv2
import numpy as np
from PIL import Image

from worker.insight.doctor.pictures import Pictures

SIDE = 96


def draw_texture(seed, side=SIDE):
    """A picture with structure at every scale, like no other seed's."""
    random = np.random.default_rng(seed)
    picture = np.zeros((side, side, 3), np.float32)
    for cells in (4, 9, 20, 45):
        coarse = random.normal(0, 32, (cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture + 128, 0, 255).astype(np.uint8)


def encode_again(picture, quality=60):
    """The picture as it comes out of a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def crop(picture, share=0.03):
    """The picture without its borders, at the size it had."""
    edge = round(share * len(picture))
    inner = np.ascontiguousarray(picture[edge:-edge, edge:-edge])
    return cv2.resize(inner, picture.shape[:2], interpolation=cv2.INTER_AREA)


def make_pictures(pixels, *, labels=None, features=None, splits=None, **others):
    """What the doctor is given; what is not said is harmless."""
    count = len(pixels)
    random = np.random.default_rng(1)
    labels = np.zeros(count, np.int32) if labels is None else np.asarray(labels)
    if features is None:
        features = random.normal(0, 1, (count, 16)).astype(np.float32)
    if splits is None:
        splits = {"train": np.arange(count)}
    classes = [f"class{number}" for number in range(int(labels.max(initial=0)) + 1)]
    defaults = {
        "classes": classes,
        "sha256s": [f"{row:064x}" for row in range(count)],
        "names": [f"{row}.jpg" for row in range(count)],
        "widths_px": np.full(count, 300),
        "heights_px": np.full(count, 300),
    }
    return Pictures(
        features=features,
        labels=labels,
        splits=splits,
        pixels=pixels,
        **(defaults | others),
    )


def make_textures(count):
    """Pixels of pictures of which no two are alike."""
    return np.stack([draw_texture(seed) for seed in range(count)])
