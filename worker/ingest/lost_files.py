"""Files of the parent's pictures that are not there any more, or not as they were.

They are looked at when it is known which pictures the new version takes over: whoever
excludes a lost picture, brings it again or replaces them all must not be stopped by it.
"""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from shared.artifacts import map_in_blocks
from shared.errors import UserError
from worker.ingest.join import Joined
from worker.ingest.version_source import KeptPicture

_READERS = 8  # looking at a file waits for the disk
_TOLD_EVERY = 1000  # pictures


def find_lost(
    pictures: Iterable[KeptPicture], total: int, report: Callable[[int, int], None]
) -> set[str]:
    """Returns the SHA-256 of pictures whose files are missing or have changed.

    Args:
        pictures: Those that the new version would link; they learn their size.
        total: How many they are.
        report: Called with pictures looked at, and all of them.

    Raises:
        OSError: Shared storage cannot be read.
    """
    lost: set[str] = set()
    with ThreadPoolExecutor(_READERS) as readers:
        looks = map_in_blocks(readers, _find_if_lost, pictures)
        for done, sha256 in enumerate(looks, start=1):
            if sha256 is not None:
                lost.add(sha256)
            if done % _TOLD_EVERY == 0 or done == total:
                report(done, total)
    return lost


def refuse_lost(joined: Joined, lost: Collection[str], version: str) -> None:
    """Refuses a version that lost files would go into.

    Args:
        joined: Its pictures; of those that came again the new file is taken.
        lost: From `find_lost`.
        version: What sentences call the parent.

    Raises:
        UserError: Naming the first such file, and how many more there are.
    """
    aside = (entry.picture for entry in joined.quarantine)
    first, count = "", 0
    for picture in chain(joined.pictures, aside):
        if not isinstance(picture, KeptPicture) or picture.sha256 not in lost:
            continue
        loss = _explain_loss(picture)
        if loss is not None:  # else it is back
            first = first or f"The picture “{picture.name}” of {version} {loss}."
            count += 1
    if count:
        others = f" {count - 1:,} more of its files are lost." if count > 1 else ""
        raise UserError(
            f"{first} Exclude it, or add it again.{others}", field="sources"
        )


def _find_if_lost(picture: KeptPicture) -> str | None:
    return picture.sha256 if _explain_loss(picture) else None


def _explain_loss(picture: KeptPicture) -> str | None:
    """Says what happened to a picture's files; None where they are there."""
    try:
        size_bytes = picture.path.stat().st_size
        upright = picture.rewritten
        upright_bytes = upright.stat().st_size if upright else size_bytes
    except FileNotFoundError as error:
        return f"is missing on the server ({error.filename})"
    expected = picture.size_bytes or size_bytes
    if size_bytes != expected or not size_bytes or not upright_bytes:
        return (
            f"has changed on the server ({picture.path}): it has {size_bytes:,} bytes, "
            f"and had {expected:,}"
        )
    picture.size_bytes = size_bytes
    return None
