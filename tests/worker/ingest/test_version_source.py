"""A version is read again in little memory, whatever the order of its tables."""

import hashlib
import json
import multiprocessing
import tracemalloc
from concurrent.futures import ProcessPoolExecutor

import pytest

from shared.artifacts import write_manifest
from worker.ingest.version_source import load_parent
from worker.ingest.version_tables import (
    CONTENTS_TABLE,
    MANIFEST_TABLE,
    QUARANTINE_TABLE,
    REPORT,
    write_table,
)


def write_version(folder, images, *, aside=0, contents=list):
    """Writes a version of tiny files; `contents` orders the rows of that table."""
    shas = sorted(
        hashlib.sha256(f"{number}".encode()).hexdigest() for number in range(images)
    )
    for number in range(256):
        (folder / "images" / f"{number:02x}").mkdir(parents=True)
    for sha in shas:
        (folder / path_of(sha)).write_bytes(b"x")
    write_table(folder, MANIFEST_TABLE, map(row, shas[aside:]))
    write_table(
        folder,
        QUARANTINE_TABLE,
        (row(sha) | {"reason": "Why.", "labels": ["cat"]} for sha in shas[:aside]),
    )
    rows = [
        {"sha256": sha, "content": sha[::-1], "picture_hash": None, "size_bytes": 1,
         "given_group": None}
        for sha in [*shas[aside:], *shas[:aside]]
    ]  # fmt: skip
    write_table(folder, CONTENTS_TABLE, contents(rows))
    report = {"fingerprint": "f", "counts": {"train": {"cat": images}}}
    (folder / REPORT).write_text(json.dumps(report))
    tables = [MANIFEST_TABLE, QUARANTINE_TABLE, CONTENTS_TABLE, REPORT]
    write_manifest(folder, tables)
    return shas


def path_of(sha):
    return f"images/{sha[:2]}/{sha}.png"


def row(sha):
    return {
        "path": path_of(sha), "original": path_of(sha), "source_name": f"cat/{sha[:9]}",
        "label": "cat", "split": "train", "sha256": sha, "width_px": 1, "height_px": 1,
        "group": None,
    }  # fmt: skip


def load(folder):
    return load_parent(folder, "version 1", 1)


@pytest.mark.parametrize(
    "contents", [list, lambda rows: rows[::-1], lambda rows: rows[:1]]
)
def test_every_picture_gets_what_is_known_of_its_contents(tmp_path, contents):
    shas = write_version(tmp_path, 9, aside=3, contents=contents)

    parent = load(tmp_path)

    pictures = [*parent.pictures, *(entry.picture for entry in parent.quarantine)]
    known = {one.sha256: one.known_content for one in pictures}
    there = [entry["sha256"] for entry in contents([{"sha256": s} for s in shas[3:]])]
    assert set(known) == set(shas)
    assert {sha: known[sha] for sha in there} == {sha: sha[::-1] for sha in there}


def measure(folder):
    """Reads a version: how many pictures, and the most bytes that it took."""
    tracemalloc.start()
    parent = load(folder)
    return len(parent.pictures), tracemalloc.get_traced_memory()[1]


def test_a_parent_is_read_without_a_second_copy_of_its_rows(tmp_path):
    count = 10_000
    write_version(tmp_path, count)

    # Whatever else goes on in this process would count, too.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as process:
        pictures, peak = process.submit(measure, tmp_path).result()

    assert pictures == count
    assert peak < 1500 * count
