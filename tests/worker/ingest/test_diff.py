"""What a version changed: counted all, listed in parts, and all of it in a table."""

from collections import Counter

import pyarrow.parquet as pq
import pytest

from worker.ingest import diff
from worker.ingest.diff import compare, list_rows
from worker.ingest.grouping import Grouping
from worker.ingest.join import Joined
from worker.ingest.version_source import KeptPicture, Parent
from worker.ingest.version_tables import (
    DIFF_TABLE,
    MANIFEST_TABLE,
    write_table,
)

COUNT = 5_000


def picture(number, label):
    return KeptPicture(
        sha256=f"{number:064x}", known_content=None, label=label, split="train",
        name=f"{number}.png", root=None, suffix=".png", is_rewritten=False,
        size_bytes=1, width_px=1, height_px=1,
    )  # fmt: skip


@pytest.fixture
def changed(tmp_path):
    """A parent of cats, half of which are dogs by now and the others gone."""
    rows = (
        {"sha256": f"{at:064x}", "label": "cat", "split": "train",
         "source_name": f"{at}.png"}
        for at in range(COUNT)
    )  # fmt: skip
    write_table(tmp_path, MANIFEST_TABLE, rows)
    parent = Parent(tmp_path, "version 1", 1, "f" * 64, Grouping(), {})
    kept = [picture(at, "dog") for at in range(0, COUNT, 2)]
    return parent, Joined(kept, []), ["train"] * len(kept)


def test_all_is_counted_and_the_first_of_each_kind_are_listed(changed, monkeypatch):
    monkeypatch.setattr(diff, "MOST_ENTRIES", 7)

    told = compare(*changed)

    assert told["counts"]["relabelled"] == told["counts"]["removed"] == COUNT // 2
    assert told["listed"] == {
        "added": 0, "removed": 7, "relabelled": 7, "moved": 0, "quarantined": 0,
        "restored": 0,
    }  # fmt: skip
    assert len(told["relabelled"]) == 7
    assert told["sentences"][0] == "2,500 pictures were removed: 2,500 “cat”."


def test_the_table_holds_all_of_it(changed, tmp_path, monkeypatch):
    monkeypatch.setattr(diff, "MOST_ENTRIES", 7)

    write_table(tmp_path, DIFF_TABLE, list_rows(*changed))

    rows = pq.read_table(tmp_path / DIFF_TABLE).to_pylist()
    assert Counter(row["kind"] for row in rows) == {
        "relabelled": COUNT // 2, "removed": COUNT // 2,
    }  # fmt: skip
    assert rows[0] == {
        "kind": "relabelled", "sha256": f"{0:064x}", "name": "0.png", "label": None,
        "split": None, "from": "cat", "to": "dog",
    }  # fmt: skip
    assert rows[1] == {
        "kind": "removed", "sha256": f"{1:064x}", "name": "1.png", "label": "cat",
        "split": "train", "from": None, "to": None,
    }  # fmt: skip
