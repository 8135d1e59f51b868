"""Which pictures in quarantine get a small copy, where not all can have one."""

from worker.ingest import thumbnails
from worker.ingest.assemble import Version
from worker.ingest.collect import Collected
from worker.ingest.content import Merged
from worker.ingest.found import SkipList
from worker.ingest.join import Joined
from worker.ingest.limits import Limits
from worker.ingest.version_source import KeptPicture, Quarantined


def set_aside(number, *labels):
    picture = KeptPicture(
        sha256=f"{number:064x}", known_content=None, label="", split="",
        name=f"{number}.png", root=None, suffix=".png", is_rewritten=False,
        size_bytes=1, width_px=1, height_px=1,
    )  # fmt: skip
    return Quarantined(picture, list(labels), "It is so.")


def test_what_waits_for_a_decision_is_drawn_first(monkeypatch):
    monkeypatch.setattr(thumbnails, "MOST_QUARANTINED", 2)
    aside = [set_aside(1, "cat"), set_aside(2, "cat", "dog"), set_aside(3, "cat")]
    merged = Merged([], [], [], 0)
    version = Version(
        Joined([], aside), [], merged, Collected(), SkipList(), Limits(), {}
    )

    chosen = thumbnails._choose_aside(version)

    assert [picture.name for picture in chosen] == ["2.png", "1.png"]
