"""Random changes to training pictures: one affine warp and one photometric pass.

The draw of image `i` in epoch `e` depends on (seed, e, i) and on nothing else, so any
step can be made again and a resumed run sees exactly the pictures the dead one would
have seen.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from shared.training_spec import Augmentation

# Part of every cache key that holds augmented pictures; raise it with any change here.
VERSION = 1

_CHANNEL_MAX = 255


@dataclass(frozen=True)
class Draw:
    """What happens to one picture.

    Args:
        flip_x: Mirror left and right.
        flip_y: Mirror top and bottom.
        angle_degrees: Rotation, counter-clockwise.
        scale: Zoom; above one enlarges.
        shift_x: Shift to the right, as a share of the side.
        shift_y: Shift down, as a share of the side.
        brightness: Factor on every channel.
    """

    flip_x: bool
    flip_y: bool
    angle_degrees: float
    scale: float
    shift_x: float
    shift_y: float
    brightness: float


def draw(augmentation: Augmentation, *, seed: int, epoch: int, image: int) -> Draw:
    """Returns the change of image number `image` in epoch `epoch`.

    Every value is drawn whether it is used or not, so that switching one kind of
    change off leaves the others as they were.
    """
    values = np.random.default_rng((seed, epoch, image)).random(7)
    signed = 2 * values[2:] - 1
    return Draw(
        flip_x=augmentation.horizontal_flip and values[0] < 0.5,  # noqa: PLR2004 - even odds
        flip_y=augmentation.vertical_flip and values[1] < 0.5,  # noqa: PLR2004 - even odds
        angle_degrees=float(augmentation.rotation * signed[0]),
        scale=float(1 + augmentation.zoom * signed[1]),
        shift_x=float(augmentation.shift * signed[2]),
        shift_y=float(augmentation.shift * signed[3]),
        brightness=float(1 + augmentation.brightness * signed[4]),
    )


def apply(image: np.ndarray, change: Draw) -> np.ndarray:
    """Returns the changed copy of `image`.

    What the warp uncovers is filled by mirroring, which invents no black corners for
    the network to learn.

    Shapes:
        image: (height, width, 3) uint8, and so is the result.
    """
    height, width = image.shape[:2]
    warped = cv2.warpAffine(
        image,
        _matrix(change, height, width),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    if change.brightness == 1:
        return warped
    levels = np.arange(_CHANNEL_MAX + 1) * change.brightness
    table = np.clip(np.rint(levels), 0, _CHANNEL_MAX).astype(np.uint8)
    return cv2.LUT(warped, table)


def augment(
    images: np.ndarray,
    numbers: np.ndarray,
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Returns the changed copies of a batch of pictures.

    Args:
        images: The plain pictures.
        numbers: Each picture's row in the pack: the `i` of its draw.
        augmentation: The bounds of the changes.
        seed: The run's seed.
        epoch: The epoch, counted from 0; for cached feature views, the view's number.

    Shapes:
        images: (batch, height, width, 3) uint8, and so is the result.
        numbers: (batch,) integers.
    """
    changed = np.empty_like(images)
    for place, number in enumerate(numbers):
        change = draw(augmentation, seed=seed, epoch=epoch, image=int(number))
        changed[place] = apply(images[place], change)
    return changed


def _matrix(change: Draw, height: int, width: int) -> np.ndarray:
    """The 2x3 matrix from the old picture to the new one, about the centre."""
    angle = math.radians(change.angle_degrees)
    cosine, sine = math.cos(angle) * change.scale, math.sin(angle) * change.scale
    linear = np.array([[cosine, sine], [-sine, cosine]]) @ np.diag(
        [-1.0 if change.flip_x else 1.0, -1.0 if change.flip_y else 1.0]
    )
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = np.array([change.shift_x * width, change.shift_y * height])
    return np.column_stack([linear, centre + shift - linear @ centre])
