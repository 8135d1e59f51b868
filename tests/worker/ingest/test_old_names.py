"""Lines of a table that name a file by bytes which are no UTF-8.

Python's own listings spell such a byte as half a surrogate, and `json.dumps` writes
that down: no other program can write it into a file or a database.
"""

import json
import os

import pytest

from tests.worker.ingest.ingest_process import run as ingest
from tests.worker.ingest.test_collect import fill, labels, source
from tests.worker.ingest.test_collect import run as collect
from tests.worker.ingest.test_remote import address
from tests.worker.ingest.test_remote import run as fetch
from tests.worker.ingest.uploads import class_folders, png, write_zip

OLD = "Größe/Öl.png"
SPELLED = os.fsdecode(OLD.encode("latin-1"))
HALF = "half \ud83d.png"


def write_lines(folder, *entries):
    lines = "".join(f"{json.dumps(entry)}\n" for entry in entries)
    return fill(folder, {"labels.jsonl": lines})


def encode_all(collected, skips):
    """Fails where something is found that no file can take."""
    facts = [labels(collected), collected.notes, *map(repr, skips.items)]
    facts += [[entry.group, entry.split] for entry in collected.files]
    return json.dumps(facts, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "named", [SPELLED, SPELLED.split("/")[1], OLD], ids=["whole", "last", "read"]
)
@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
def test_a_line_finds_the_file_of_an_old_name(tmp_path, named, packed):
    files = {SPELLED: png(1), "new.png": png(2)}
    lines = [{"file": named, "label": "old"}, {"file": "new.png", "label": "new"}]
    pets = write_lines(tmp_path / "pets", *lines)
    if packed:
        inside = {os.fsencode(name): content for name, content in files.items()}
        inside[b"labels.jsonl"] = (pets / "labels.jsonl").read_bytes()
        pets = write_zip(tmp_path / "pets.zip", inside)
    else:
        fill(pets, files)

    collected, skips = collect(tmp_path, source(pets))

    assert labels(collected) == {OLD: ("old", None), "new.png": ("new", None)}
    assert skips.total == 0
    encode_all(collected, skips)


def test_a_line_beside_several_sources_finds_the_file_too(tmp_path):
    pets = fill(tmp_path / "pets", {SPELLED: png(1)})
    more = fill(tmp_path / "more", {"Öl.png": png(2)})
    lines = [{"file": f"pets/{SPELLED}", "label": "old"}]
    table = write_lines(tmp_path / "table", *lines) / "labels.jsonl"
    entry = source(table) | {"type": "csv"}

    collected, skips = collect(tmp_path, source(pets), source(more), entry)

    assert labels(collected) == {f"pets/{OLD}": ("old", None)}
    assert [skip.file for skip in skips.items] == ["more/Öl.png"]


def test_what_no_name_can_be_costs_its_own_line(tmp_path):
    lines = [
        {"file": HALF, "label": "cat"},
        {"file": "1.png", "label": f"cat {HALF}", "patient": HALF},
        {"file": "2.png", "label": "dog", "split": HALF},
        {"file": SPELLED, "label": HALF},
    ]
    pets = write_lines(tmp_path / "pets", *lines)
    fill(pets, {"1.png": png(1), "2.png": png(2), "half .png": png(3)})

    collected, skips = collect(tmp_path, source(pets))

    (entry,) = collected.files
    assert (entry.label, entry.group) == ("cat half \ufffd.png", "half \ufffd.png")
    reasons = {skip.file: skip.reason for skip in skips.items}
    assert reasons["labels.jsonl, line 1"] == "There is no file “half \ufffd.png”."
    assert "The split “half \ufffd.png” is none" in reasons["labels.jsonl, line 3"]
    assert "labels.jsonl, line 4" in reasons
    encode_all(collected, skips)


def test_a_web_server_is_asked_for_the_bytes_of_the_name(tmp_path, serve):
    server = serve({"/sets/pr%E9.png": png(1)})
    lines = [{"file": os.fsdecode(b"pr\xe9.png"), "label": "cat"}]
    lines += [{"file": name, "label": "dog"} for name in (HALF, f"{server.url}/{HALF}")]
    table = write_lines(tmp_path / "table", *lines) / "labels.jsonl"
    server.files["/sets/labels.jsonl"] = table.read_bytes()

    collected, skips = fetch(tmp_path, server, address(server, "/sets/labels.jsonl"))

    assert labels(collected) == {"pr\ufffd.png": ("cat", None)}
    assert set(skips) == {"labels.jsonl, line 2", "labels.jsonl, line 3"}
    json.dumps(skips, ensure_ascii=False).encode()


def test_a_dataset_with_such_lines_is_made(tmp_path):
    files = class_folders(each=3) | {SPELLED: png(70)}
    lines = [{"file": name, "label": "dog" if "dog" in name else "cat"}
             for name in files]  # fmt: skip
    lines += [{"file": HALF, "label": HALF, "patient": HALF}]
    odd = os.fsdecode("Übung".encode("latin-1"))
    pets = fill(write_lines(tmp_path / odd, *lines), files)

    made = ingest(tmp_path / "job", source(pets) | {"name": None})

    assert OLD in made.rows()
    assert len(made.rows()) == len(files)
    left_out = [skip["file"] for skip in made.report()["skipped"]]
    assert left_out == [f"labels.jsonl, line {len(lines)}"]
