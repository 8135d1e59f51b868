"""Random changes to training pictures: one affine warp and one photometric pass.

The draw of image `i` in epoch `e` depends on (seed, e, i) and on nothing else, so any
step can be made again and a resumed run sees exactly the pictures the dead one would
have seen.

This is the hot loop of fine-tuning, and each choice in it is measured (224 px, one
core, OpenCV 5.0): the draws and matrices of a batch are made at once; the warp runs on
four channels, which OpenCV has vector code for and three it has not (210 microseconds
an image against 460, the same pixels; widening and narrowing cost 25); everything is
written where it belongs, so the only copy of a picture is the changed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from shared.training_spec import Augmentation
from worker.training import counted_draws

# Raise it with any change here.
VERSION = 2

_STREAM = 0  # of `counted_draws`: no other draw shares it


@dataclass(frozen=True)
class Draws:
    """What happens to each picture of a batch.

    Args:
        flip_x: -1 where left and right are mirrored, else 1.
        flip_y: -1 where top and bottom are mirrored, else 1.
        angle_degrees: Rotation, counter-clockwise.
        scale: Zoom; above one enlarges.
        shift_x: Shift to the right, as a share of the width.
        shift_y: Shift down, as a share of the height.
        brightness: Factor on every channel.

    Shapes:
        all: (batch,) float64.
    """

    flip_x: np.ndarray
    flip_y: np.ndarray
    angle_degrees: np.ndarray
    scale: np.ndarray
    shift_x: np.ndarray
    shift_y: np.ndarray
    brightness: np.ndarray


def describe_changes() -> dict[str, Any]:
    """Returns all that decides changed pixels: the rules, and whose code warps them.

    Part of every cache key that holds augmented pictures.
    """
    return {"version": VERSION, "opencv": cv2.__version__}


def draw(
    augmentation: Augmentation, numbers: np.ndarray, *, seed: int, epoch: int
) -> Draws:
    """Returns the changes of the images `numbers` in epoch `epoch`.

    Every value is drawn whether it is used or not, so that switching one kind of
    change off leaves the others as they were.

    Shapes:
        numbers: (batch,) integers.
    """
    values = counted_draws.uniform(
        numbers, seed=seed, epoch=epoch, stream=_STREAM, count=7
    )
    signed = 2 * values - 1
    still = np.ones(len(numbers))
    return Draws(
        flip_x=np.where(signed[0] < 0, -1.0, 1.0)
        if augmentation.horizontal_flip
        else still,
        flip_y=np.where(signed[1] < 0, -1.0, 1.0)
        if augmentation.vertical_flip
        else still,
        angle_degrees=augmentation.rotation * signed[2],
        scale=1 + augmentation.zoom * signed[3],
        shift_x=augmentation.shift * signed[4],
        shift_y=augmentation.shift * signed[5],
        brightness=1 + augmentation.brightness * signed[6],
    )


def augment(
    images: Sequence[np.ndarray] | np.ndarray,
    numbers: np.ndarray,
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Returns the changed copies of a batch of pictures.

    Args:
        images: The plain pictures, of one shape; they may lie in a mapped file.
        numbers: Each picture's row in the pack: the `i` of its draw.
        augmentation: The bounds of the changes.
        seed: The run's seed.
        epoch: The epoch, counted from 0; for cached feature views, the view's number.

    Shapes:
        images: batch times (height, width, 3) uint8; the result: (batch, height,
            width, 3) uint8.
        numbers: (batch,) integers.
    """
    return apply(images, draw(augmentation, numbers, seed=seed, epoch=epoch))


def apply(images: Sequence[np.ndarray] | np.ndarray, draws: Draws) -> np.ndarray:
    """Returns the changed copies of `images`.

    What the warp uncovers is filled by mirroring, which invents no black corners for
    the network to learn.

    Shapes:
        images: batch times (height, width, 3) uint8; the result: (batch, height,
            width, 3) uint8.
    """
    height, width = images[0].shape[:2]
    changed = np.empty((len(images), height, width, 3), np.uint8)
    matrices = _matrices(draws, height, width)
    factors = draws.brightness.tolist()
    wide = np.empty((height, width, 4), np.uint8)
    warped = np.empty_like(wide)
    for image, matrix, factor, target in zip(
        images, matrices, factors, changed, strict=True
    ):
        cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=wide)
        cv2.warpAffine(
            wide,
            matrix,
            (width, height),
            dst=warped,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=target)
        if factor != 1:
            # Rounds half to even and clips to 0..255; factors are never negative.
            cv2.convertScaleAbs(target, dst=target, alpha=factor)
    return changed


def _matrices(draws: Draws, height: int, width: int) -> np.ndarray:
    """The matrices from the new pictures to the old ones, about the centre.

    A point p becomes L (p - c) + c + s: flip first, then rotation and zoom, then the
    shift s. OpenCV asks where a new pixel comes from, so these are the inverses.

    Shapes:
        result: (batch, 2, 3) float64.
    """
    angle = np.radians(draws.angle_degrees)
    cosine, sine = np.cos(angle) / draws.scale, np.sin(angle) / draws.scale
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    to_x = centre_x + draws.shift_x * width
    to_y = centre_y + draws.shift_y * height
    xx, xy = draws.flip_x * cosine, -draws.flip_x * sine
    yx, yy = draws.flip_y * sine, draws.flip_y * cosine
    rows = [
        [xx, xy, centre_x - xx * to_x - xy * to_y],
        [yx, yy, centre_y - yx * to_x - yy * to_y],
    ]
    return np.ascontiguousarray(np.array(rows).transpose(2, 0, 1))
