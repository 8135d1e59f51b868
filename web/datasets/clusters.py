"""Which pictures that look alike stay together when the splits are dealt anew.

Ingest finds some of them by their hashes; here are those that the doctor found by their
pixels. They go with the job, so there is an end to how many they may be.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.artifacts import Storage
from shared.forecast_tables import Forecast
from web.datasets import findings
from web.datasets.findings import FindingKind, count_unlisted

BY_DUPLICATES = "duplicates"  # as ingest names this way of dealing
# As the doctor has it (`worker/insight/doctor/finding.py`): of a finding about more
# pictures it names the first ones.
MOST_NAMED = 200
# Their pictures show the same.
_ALIKE = (
    FindingKind.LABEL_CONFLICT,
    FindingKind.SPLIT_LEAK,
    FindingKind.NEAR_DUPLICATE,
)


@dataclass(frozen=True)
class Clusters:
    """The clusters that are held together, and how many are not.

    Args:
        held: The pictures of each.
        left: How many clusters did not fit.
        left_images: How many pictures those have.
        cut: Of how many that are held only the first `MOST_NAMED` pictures are known.
        unlisted: How many were found and are too many to be listed, at most: one that
            is of two kinds counts twice.
    """

    held: list[list[str]]
    left: int
    left_images: int
    cut: int
    unlisted: int

    def count(self) -> dict[str, int]:
        """Returns the numbers, as answers tell them."""
        return {
            "held": len(self.held),
            "left": self.left,
            "left_images": self.left_images,
            "cut": self.cut,
            "unlisted": self.unlisted,
        }


def find_clusters(
    storage: Storage, forecast: Forecast, accepted: set[str], most: int
) -> Clusters:
    """Returns the clusters of a forecast that are not accepted, the worst first.

    Args:
        storage: Shared storage.
        forecast: Whose findings.
        accepted: Keys of findings that users have accepted.
        most: Pictures in all that are held; a cluster is held whole or not at all.

    Raises:
        NotFoundError: When the file of the findings is gone.
    """
    found = findings.list_open(storage, forecast, accepted, _ALIKE)
    held: list[list[str]] = []
    left: list[list[str]] = []
    room = most
    for cluster in _drop_repeated(one.images for one in found):
        if len(cluster) > room:
            left.append(cluster)
            continue
        held.append(cluster)
        room -= len(cluster)
    return Clusters(
        held=held,
        left=len(left),
        left_images=sum(map(len, left)),
        cut=sum(len(cluster) >= MOST_NAMED for cluster in held),
        unlisted=_count_unlisted(forecast.summary),
    )


def _drop_repeated(clusters: Iterable[list[str]]) -> list[list[str]]:
    """Drops lone pictures, and what was found as a leak and as a conflict as well."""
    once = {frozenset(cluster): cluster for cluster in clusters if len(cluster) > 1}
    return list(once.values())


def _count_unlisted(summary: dict[str, Any]) -> int:
    return sum(count_unlisted(summary, kind) for kind in _ALIKE)
