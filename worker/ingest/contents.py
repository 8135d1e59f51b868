"""What the pictures of an old version show, where the version did not keep it.

Without that a PNG could not be told to be the BMP that is there already. It is looked
up once: the new version keeps it (`contents.parquet`).
"""

import os
from collections.abc import Callable

from worker.ingest.child_pool import Work, run_in_children
from worker.ingest.limits import Limits
from worker.ingest.verify import PROVER
from worker.ingest.version_source import Parent


def know_contents(
    parent: Parent, limits: Limits, report: Callable[[int, int], None]
) -> None:
    """Decodes those pictures of `parent` whose pixels nobody knows.

    Args:
        parent: Its pictures get their contents; one that does not decode stays known
            by its bytes.
        limits: Time and memory of the children.
        report: Called with pictures looked at, and all of them.
    """
    unknown = [one for one in parent.everything if one.known_content is None]
    if not unknown:
        return
    work = Work(
        module=PROVER,
        function="prove",
        seconds=limits.image_seconds,
        memory_bytes=limits.image_memory_bytes,
        children=max(1, min(len(unknown), len(os.sched_getaffinity(0)))),
    )
    # They are upright already, so nothing is written beside them.
    tasks = (
        (at, (str(picture.rewritten or picture.path), os.devnull, limits.max_pixels))
        for at, picture in enumerate(unknown)
    )
    done = 0
    for outcome in run_in_children(work, tasks):
        if outcome.fault is None:
            unknown[outcome.key].known_content = outcome.result["content"]
        done += outcome.is_last
        report(done, len(unknown))
