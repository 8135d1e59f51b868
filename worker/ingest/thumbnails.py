"""Small copies of some pictures of a version, for pages."""

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from shared.durable_files import link_or_copy
from worker.ingest.assemble import Version
from worker.ingest.child_pool import Work, run_in_children
from worker.ingest.join import AnyPicture

SAMPLES_PER_CLASS = 8
MOST_SAMPLES = 400
MOST_QUARANTINED = 2_000  # as many as the doctor lists of a kind


def write_thumbnails(
    version: Version, folder: Path, upright: Callable[[AnyPicture], Path]
) -> list[dict[str, str]]:
    """Writes `thumbnails/` and returns the report's samples.

    Shown are the first pictures of each class in the order of hashes, and those in
    quarantine: first those with several labels, about which somebody has to decide.
    What the parent has a thumbnail of is not decoded again.

    Args:
        version: Its pictures.
        folder: The version's folder, all pictures in place.
        upright: Where the file that training reads of a picture lies.
    """
    (folder / "thumbnails").mkdir()
    samples = _choose_samples(version)
    aside = _choose_aside(version)
    lacking = [
        picture
        for picture in [*samples, *aside]
        if not _take_over(version, folder, picture)
    ]
    _make(version, lacking, folder, upright)
    return [
        {
            "path": _thumbnail(picture),
            "label": picture.label,
            "source_name": picture.name,
        }
        for picture in samples
        if (folder / _thumbnail(picture)).exists()
    ]


def _choose_samples(version: Version) -> list[AnyPicture]:
    by_label: dict[str, list[AnyPicture]] = defaultdict(list)
    for picture in version.joined.pictures:
        if len(by_label[picture.label]) < SAMPLES_PER_CLASS:
            by_label[picture.label].append(picture)
    return [p for _, group in sorted(by_label.items()) for p in group][:MOST_SAMPLES]


def _choose_aside(version: Version) -> list[AnyPicture]:
    aside = sorted(version.joined.quarantine, key=lambda one: len(one.labels) <= 1)
    return [one.picture for one in aside[:MOST_QUARANTINED]]


def _take_over(version: Version, folder: Path, picture: AnyPicture) -> bool:
    """Whether the parent had a thumbnail, which is here now."""
    if version.parent is None:
        return False
    try:
        link_or_copy(
            version.parent.folder / _thumbnail(picture), folder / _thumbnail(picture)
        )
    except FileNotFoundError:
        return False
    return True


def _make(
    version: Version,
    pictures: list[AnyPicture],
    folder: Path,
    upright: Callable[[AnyPicture], Path],
) -> None:
    """Draws what nobody has; a picture that cannot be drawn has no thumbnail."""
    if not pictures:
        return
    work = Work(
        module="worker.ingest.small_copy",
        function="draw",
        seconds=version.limits.image_seconds,
        memory_bytes=version.limits.image_memory_bytes,
        children=min(len(pictures), len(os.sched_getaffinity(0))),
    )
    tasks = (
        (at, (str(upright(picture)), str(folder / _thumbnail(picture))))
        for at, picture in enumerate(pictures)
    )
    for outcome in run_in_children(work, tasks):
        if outcome.fault is not None:
            target = folder / _thumbnail(pictures[outcome.key])
            target.unlink(missing_ok=True)  # half of one


def _thumbnail(picture: AnyPicture) -> str:
    return f"thumbnails/{picture.sha256}.jpg"
