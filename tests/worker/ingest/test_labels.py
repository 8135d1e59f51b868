"""Labels from folders, as people pack them."""

import unicodedata
from pathlib import Path

import pytest

from worker.ingest.found import FoundFile, SkipList
from worker.ingest.labels import (
    archive_stem,
    label_by_folder,
    note_lost_classes,
    note_similar_labels,
)


def label(*names, **options):
    """Returns {name: (label, split)} of what got a label, and the skips."""
    skips = SkipList()
    files = [FoundFile(Path("nowhere"), name) for name in names]
    labelled = label_by_folder(files, skips, **options)
    return {f.file.name: (f.label, f.split) for f in labelled.files}, skips


def test_one_folder_per_class():
    labels, skips = label("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")

    assert labels == {
        "cat/1.jpg": ("cat", None),
        "cat/2.jpg": ("cat", None),
        "dog/1.jpg": ("dog", None),
    }
    assert skips.total == 0


@pytest.mark.parametrize("wrapper", ["data", "a/b/c", "train", "pets-main/images"])
def test_folders_around_everything_name_no_class(wrapper):
    labels, _ = label(f"{wrapper}/cat/1.jpg", f"{wrapper}/dog/1.jpg")

    assert {name for name, _ in labels.values()} == {"cat", "dog"}


@pytest.mark.parametrize("stray", ["readme.txt", "data/notes.txt", "data/cover.jpg"])
def test_a_stray_file_beside_the_classes_hides_no_wrapper(stray):
    labels, skips = label("data/cat/1.jpg", "data/cat/2.jpg", "data/dog/1.jpg", stray)

    assert {name for name, _ in labels.values()} == {"cat", "dog"}
    assert [(skip.file, skip.code) for skip in skips.items] == [(stray, "no_label")]


@pytest.mark.parametrize("wrapper", ["", "pets/", "a/b/"])
@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("val", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("dev", "val"),
        ("test", "test"),
        ("TEST", "test"),
        ("holdout", "test"),
    ],
)
def test_split_folders_give_the_split(wrapper, folder, split):
    other = "test" if split == "train" else "train"
    labels, _ = label(
        f"{wrapper}{folder}/cat/1.jpg",
        f"{wrapper}{folder}/dog/1.jpg",
        f"{wrapper}{other}/cat/2.jpg",
    )

    assert labels[f"{wrapper}{folder}/cat/1.jpg"] == ("cat", split)
    assert labels[f"{wrapper}{folder}/dog/1.jpg"] == ("dog", split)
    assert labels[f"{wrapper}{other}/cat/2.jpg"] == ("cat", other)


def test_classes_called_like_splits_stay_classes():
    labels, _ = label("test/1.jpg", "train/1.jpg", "holdout/2.jpg")

    assert labels == {
        "test/1.jpg": ("test", None),
        "train/1.jpg": ("train", None),
        "holdout/2.jpg": ("holdout", None),
    }


def test_a_flat_test_folder_has_no_labels_and_costs_no_others():
    labels, skips = label(
        "train/cat/1.jpg", "train/dog/1.jpg", "test/0001.jpg", "test/0002.jpg"
    )

    assert labels == {
        "train/cat/1.jpg": ("cat", "train"),
        "train/dog/1.jpg": ("dog", "train"),
    }
    assert [skip.file for skip in skips.items] == ["test/0001.jpg", "test/0002.jpg"]
    assert "in no class folder" in skips.items[0].reason


def test_folders_within_a_class_belong_to_it():
    labels, _ = label("cat/2019/a/1.jpg", "cat/2020/1.jpg", "dog/1.jpg")

    assert labels["cat/2019/a/1.jpg"] == ("cat", None)


def test_one_class_with_folders_in_it_is_no_wrapper():
    labels, _ = label("cat/1.jpg", "cat/2.jpg", "cat/more/3.jpg")

    assert {name for name, _ in labels.values()} == {"cat"}


def test_a_flat_source_has_the_label_it_is_given():
    labels, _ = label("1.jpg", "2.jpg", source_label="cats", source_split="test")

    assert labels == {"1.jpg": ("cats", "test"), "2.jpg": ("cats", "test")}


def test_the_label_of_a_flat_source_is_brought_to_one_spelling():
    labels, _ = label("1.jpg", source_label=" hot\x1b  dog")

    assert labels == {"1.jpg": ("hot\ufffd dog", None)}


def test_a_flat_source_without_a_label_has_none():
    labels, skips = label("1.jpg", "2.jpg", "list.txt")

    assert labels == {}
    assert skips.codes["no_label"] == 3


def test_two_spellings_of_one_unicode_name_are_one_class():
    apart = unicodedata.normalize("NFD", "Größe")
    labels, _ = label("Größe/1.jpg", f"{apart}/2.jpg", " dog /1.jpg")

    assert {name for name, _ in labels.values()} == {"Größe", "dog"}


def test_classes_that_differ_by_case_alone_are_named():
    notes = note_similar_labels(["Cat", "cat", "dog", "hot dog", "hotdog"])

    assert len(notes) == 2
    assert "“Cat” and “cat”" in notes[0]
    assert "“hot dog” and “hotdog”" in notes[1]


def test_classes_without_a_usable_picture_are_named():
    one = note_lost_classes(["cat", "dog", "dog"], ["cat"])
    two = note_lost_classes(["cat", "dog", "emu"], ["cat"])

    assert one == ["The class “dog” is gone: none of its files is a usable picture."]
    assert "The classes “dog”, “emu” are gone" in two[0]
    assert note_lost_classes(["cat"], ["cat"]) == []


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("cats.zip", "cats"),
        ("cats.tar.gz", "cats"),
        ("C:\\a\\cats.TGZ", "cats"),
        ("v1.2 cats.zip", "v1.2 cats"),
    ],
)
def test_the_endings_of_archives_are_taken_off(name, stem):
    assert archive_stem(name) == stem
