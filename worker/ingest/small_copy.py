"""Draws the thumbnail of one picture, in a child process that starts in a moment."""

from PIL import Image

_THUMBNAIL_PX = 256


def prepare() -> None:
    """Makes a child process ready: nothing is to be done."""


def draw(path: str, target: str) -> None:
    """Writes a small JPEG of an upright picture, at most 256 px wide or high."""
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        image.draft("RGB", (_THUMBNAIL_PX, _THUMBNAIL_PX))
        image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
        image.convert("RGB").save(target, "JPEG", quality=80)
