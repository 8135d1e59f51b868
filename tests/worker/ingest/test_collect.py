"""Several sources become one dataset: archives, tables beside them, server paths."""

import json
import os

import pytest

from shared.errors import UserError
from tests.worker.ingest.uploads import class_folders, png, write_archive, write_zip
from worker.ingest.collect import collect
from worker.ingest.found import SkipList
from worker.ingest.request import load_request

PETS = {"a.png": png(1), "b.png": png(2), "sub/c.png": png(3)}
TABLE = "filename,label,split\na.png,cat,train\nb.png,dog,\nsub/c.png,dog,test\n"
LABELS = {
    "a.png": ("cat", "train"),
    "b.png": ("dog", None),
    "sub/c.png": ("dog", "test"),
}


def source(path, **fields):
    kind = {".zip": "archive", ".csv": "csv"}.get(path.suffix, "folder")
    return {"type": kind, "path": str(path), "name": path.name, **fields}


def run(tmp_path, *sources, report=lambda _done, _all: None, **limits):
    """Collects the sources as SPEC.json names them."""
    tmp_path.mkdir(exist_ok=True)
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"sources": list(sources), "limits": limits}))
    skips = SkipList()
    collected = collect(load_request(spec), tmp_path / "unpacked", skips, report)
    return collected, skips


def labels(collected):
    return {file.file.name: (file.label, file.split) for file in collected.files}


def fill(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
    return folder


def test_a_table_inside_an_archive_labels_its_files(tmp_path):
    path = write_zip(tmp_path / "pets.zip", {**PETS, "labels.csv": TABLE})

    collected, skips = run(tmp_path, source(path))

    assert labels(collected) == LABELS
    assert collected.notes == ["Labels come from “labels.csv”."]
    assert skips.total == 0


def test_a_table_beside_an_archive_labels_its_files(tmp_path):
    archive = write_zip(tmp_path / "pets.zip", PETS)
    table = fill(tmp_path, {"labels.csv": TABLE}) / "labels.csv"

    collected, skips = run(tmp_path, source(archive), source(table))

    assert labels(collected) == LABELS
    assert skips.total == 0


def test_a_table_beside_two_archives_labels_the_files_of_both(tmp_path):
    one = write_zip(tmp_path / "one.zip", {"a.png": png(1), "b.png": png(2)})
    two = write_zip(tmp_path / "two.zip", {"sub/c.png": png(3)})
    table = fill(tmp_path, {"labels.csv": TABLE}) / "labels.csv"

    collected, _ = run(tmp_path, source(one), source(table), source(two))

    assert labels(collected) == {
        "one.zip/a.png": ("cat", "train"),
        "one.zip/b.png": ("dog", None),
        "two.zip/sub/c.png": ("dog", "test"),
    }


def test_the_table_that_is_named_is_taken_and_no_other(tmp_path):
    other = TABLE.replace("cat", "bird")
    path = write_zip(
        tmp_path / "pets.zip", {**PETS, "x/other.csv": other, "y/mine.csv": TABLE}
    )

    collected, skips = run(tmp_path, source(path, labels="y/mine.csv"))

    assert labels(collected)["a.png"] == ("cat", "train")
    assert [skip.file for skip in skips.items] == ["x/other.csv"]


def test_a_named_table_that_is_not_there_is_refused(tmp_path):
    path = write_zip(tmp_path / "pets.zip", PETS)

    with pytest.raises(UserError, match=r"“pets\.zip” holds no “gone\.csv”"):
        run(tmp_path, source(path, labels="gone.csv"))


@pytest.mark.parametrize(
    "text", ["width,height\n1,2\n", "9" * 200_000], ids=["other", "endless"]
)
def test_a_csv_that_is_no_label_table_is_left_out_and_folders_count(tmp_path, text):
    files = {**class_folders(each=1), "sizes.csv": text}
    path = write_zip(tmp_path / "pets.zip", files)

    collected, skips = run(tmp_path, source(path))

    assert set(labels(collected).values()) == {("cat", None), ("dog", None)}
    assert [skip.code for skip in skips.items] == ["not_a_label_table"]


def test_a_table_with_too_many_lines_is_not_left_out_silently(tmp_path):
    files = {**PETS, "labels.csv": TABLE + "a,b\n" * 9}
    path = write_zip(tmp_path / "pets.zip", files)

    with pytest.raises(UserError, match=r"With “labels\.csv”, the label tables"):
        run(tmp_path, source(path), max_files=10)


def test_progress_is_of_the_archives_alone(tmp_path):
    """What lies in folders is not unpacked, and must not make it look done."""
    folder = fill(tmp_path / "more", {"emu/film.png": bytes(2**20)})
    one = write_zip(tmp_path / "one.zip", class_folders(each=3))
    told = []

    run(
        tmp_path,
        source(folder),
        source(one),
        report=lambda done, total: told.append((done, total)),
    )

    size = one.stat().st_size
    assert {total for _, total in told} == {size}
    assert told[0][0] < size / 2
    assert len(told) == 6


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
def test_progress_goes_on_where_more_comes_out_than_the_archive_has(tmp_path, ending):
    pictures = {f"cat/{n}.bmp": os.urandom(200_000) + bytes(800_000) for n in range(6)}
    one = write_archive(tmp_path / f"one{ending}", pictures)
    two = write_archive(tmp_path / f"two{ending}", pictures)
    told = []

    run(
        tmp_path, source(one) | {"type": "archive"}, source(two) | {"type": "archive"},
        report=lambda done, total: told.append((done, total)),
    )  # fmt: skip

    size = one.stat().st_size + two.stat().st_size
    done = [read for read, _ in told]
    assert {total for _, total in told} == {size}
    assert done == sorted(set(done))
    assert done[0] < size / 4
    assert size * 0.9 < done[-1] <= size


def test_what_was_read_is_named_as_that_which_was_left_out_of_it(tmp_path):
    table = fill(tmp_path, {"all.csv": "filename,label\na.png,cat\nx.png,cat\n"})
    pets = write_zip(tmp_path / "pets.zip", {**PETS, "t/l.csv": TABLE})
    cats = write_zip(tmp_path / "cats.zip", {"7.png": png(7)})

    alone, _ = run(tmp_path / "1", source(pets))
    several, _ = run(tmp_path / "2", source(pets), source(cats))
    beside, skips = run(tmp_path / "3", source(table / "all.csv"), source(cats))

    assert alone.read == {"pets.zip", "t/l.csv"}
    assert several.read == {"pets.zip", "cats.zip", "pets.zip/t/l.csv"}
    assert beside.read == {"all.csv", "cats.zip"}
    assert "all.csv, line 3" in [skip.file for skip in skips.items]


def test_a_folder_on_the_server_gives_its_classes(tmp_path):
    folder = fill(tmp_path / "pets", class_folders(each=1))

    collected, _ = run(tmp_path, source(folder))

    assert labels(collected) == {"cat/0.png": ("cat", None), "dog/0.png": ("dog", None)}
    assert collected.files[0].file.path.is_relative_to(folder)


def test_a_folder_on_the_server_with_a_table_in_it(tmp_path):
    folder = fill(tmp_path / "pets", {**PETS, "labels.csv": TABLE})

    collected, _ = run(tmp_path, source(folder))

    assert labels(collected) == LABELS


def test_a_folder_on_the_server_with_a_table_elsewhere(tmp_path):
    folder = fill(tmp_path / "pets", PETS)
    table = fill(tmp_path / "tables", {"labels.csv": TABLE}) / "labels.csv"

    collected, _ = run(tmp_path, source(folder, labels=str(table)))

    assert labels(collected) == LABELS


def test_a_csv_on_the_server_labels_the_files_beside_it(tmp_path):
    folder = fill(tmp_path / "pets", {**PETS, "labels.csv": TABLE})

    collected, skips = run(tmp_path, source(folder / "labels.csv"))

    assert labels(collected) == LABELS
    assert skips.total == 0


@pytest.mark.parametrize("by", ["csv", "folder"])
def test_a_csv_on_the_server_may_name_whole_paths(tmp_path, by):
    folder = tmp_path / "pets"
    whole = "filename,label\n" + "".join(f"{folder}/{n},{n[0]}\n" for n in PETS)
    fill(folder, {**PETS, "labels.csv": whole})

    collected, skips = run(
        tmp_path, source(folder / "labels.csv" if by == "csv" else folder)
    )

    assert labels(collected) == {name: (name[0], None) for name in PETS}
    assert skips.total == 0


def test_flat_archives_stand_for_one_class_each(tmp_path):
    cats = write_zip(tmp_path / "cats.zip", {"1.png": png(1)})
    dogs = write_zip(tmp_path / "dogs.zip", {"1.png": png(2)})

    collected, _ = run(tmp_path, source(cats), source(dogs))

    assert labels(collected) == {
        "cats.zip/1.png": ("cats", None),
        "dogs.zip/1.png": ("dogs", None),
    }


def test_archives_named_after_splits_give_them(tmp_path):
    train = write_zip(tmp_path / "train.zip", class_folders(each=1))
    test = write_zip(tmp_path / "test.zip", class_folders(each=1, start=50))

    collected, _ = run(tmp_path, source(train), source(test))

    assert set(labels(collected).values()) == {
        ("cat", "train"),
        ("dog", "train"),
        ("cat", "test"),
        ("dog", "test"),
    }


def test_archives_of_the_same_classes_are_put_together(tmp_path):
    one = write_zip(tmp_path / "one.zip", class_folders(each=1))
    two = write_zip(
        tmp_path / "two.zip", {"all/cat/7.png": png(7), "all/emu/8.png": b""}
    )

    collected, _ = run(tmp_path, source(one), source(two))

    assert {label for label, _ in labels(collected).values()} == {"cat", "dog", "emu"}


def test_an_empty_folder_is_told_since_perhaps_a_class_was_forgotten(tmp_path):
    path = write_zip(tmp_path / "pets.zip", {**class_folders(each=1), "emu/": b""})

    collected, _ = run(tmp_path, source(path))

    assert collected.notes == ["The folder “emu” holds no file, so it makes no class."]


def test_an_empty_folder_is_told_by_its_archive_where_there_are_several(tmp_path):
    one = write_zip(tmp_path / "one.zip", {**class_folders(each=1), "emu/": b""})
    two = write_zip(tmp_path / "two.zip", class_folders(each=1, start=50))

    collected, _ = run(tmp_path, source(one), source(two))

    assert "“one.zip/emu” holds no file" in collected.notes[0]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "at least one source"),
        ({"sources": []}, "at least one source"),
        ({"sources": ["pets.zip"]}, "`sources` must list objects"),
        ({"sources": [{"type": "archive"}]}, "`sources.path`"),
        (
            {"sources": [{"type": "ftp", "path": "/"}]},
            "csv, address or version",
        ),
        ({"sources": [{"type": "csv", "path": "/no"}]}, "“no” is not there any more"),
        (
            {"sources": [{"type": "folder", "path": "/"}], "limits": {"x": 1}},
            "`limits.x`",
        ),
        (
            {"sources": [{"type": "folder", "path": "/"}], "limits": {"max_files": 0}},
            "above 0",
        ),
        (
            {"sources": [{"type": "folder", "path": "/"}], "split": {"x": 1}},
            "`split.x`",
        ),
        (
            {"sources": [{"type": "folder", "path": "/"}], "split": {"train": 0.9}},
            "add up to 1",
        ),
        (
            {"sources": [{"type": "folder", "path": "/"}], "split": {"train": "most"}},
            "`split.train` must be a number",
        ),
    ],
)
def test_a_spec_that_asks_for_nonsense_is_refused_by_field(tmp_path, spec, words):
    path = tmp_path / "spec.json"
    path.write_text(spec if isinstance(spec, str) else json.dumps(spec))

    with pytest.raises(UserError, match=words):
        load_request(path)
