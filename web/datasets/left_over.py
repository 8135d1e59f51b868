"""Says what did not fit into one decision, and what becomes of it."""

from web.datasets.clusters import MOST_NAMED, Clusters
from web.datasets.decision import MAX_IMAGES

_AT_A_TIME = f"one version is decided about at most {MAX_IMAGES:,} pictures at a time"


def tell_findings(left: int) -> list[str]:
    """Says how many findings are left, if any."""
    if not left:
        return []
    are = "finding is" if left == 1 else "findings are"
    return [f"{left:,} {are} left for the next version: {_AT_A_TIME}, the worst first."]


def tell_restored(left: int) -> list[str]:
    """Says how many pictures stay in quarantine for a reason that was named, if any."""
    if not left:
        return []
    stay = "picture stays" if left == 1 else "pictures stay"
    return [f"{left:,} {stay} there until the next version: {_AT_A_TIME}."]


def tell_clusters(clusters: Clusters | None) -> list[str]:
    """Says which pictures that look alike may be parted all the same, if any."""
    sentences = []
    if clusters and clusters.left:
        sentences.append(
            f"{_count(clusters.left)} with {clusters.left_images:,} pictures that look "
            f"alike may be parted: {MAX_IMAGES:,} pictures are held together at most, "
            "the worst first."
        )
    if clusters and clusters.cut:
        sentences.append(
            f"Of {_count(clusters.cut)} only the first {MOST_NAMED} pictures are held "
            "together: what there may be beyond them is not."
        )
    if clusters and clusters.unlisted:
        sentences.append(
            f"{_count(clusters.unlisted)} more were found than are listed, and may be "
            "parted."
        )
    return sentences


def _count(clusters: int) -> str:
    return f"{clusters:,} {'cluster' if clusters == 1 else 'clusters'}"
