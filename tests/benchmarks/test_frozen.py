"""What the comparison counts, and that every contender gets the same pictures."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import frozen
from benchmarks.frozen_contenders import curves
from benchmarks.pictures import drop_from_memory, open_pictures
from worker.training.labelled_images import read_dataset


def curve(*accuracies, each=10.0):
    return {
        "epochs": [
            {"seconds": each * (place + 1), "val_accuracy": accuracy}
            for place, accuracy in enumerate(accuracies)
        ]
    }


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    for label in ("glass", "paper"):
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        for number in range(40):
            pixels = random.integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "data"


def test_the_target_is_the_best_and_its_time_the_first_epoch_that_reached_it():
    row = frozen.compare(
        {
            "a": curve(0.5, 0.8, 0.7, 0.8),
            "b": curve(0.6, 0.7),
            "ours": curve(0.7, 0.75, 0.8, each=1.0),
            "plain": curve(0.8, each=2.0),
            "first": curve(0.8, each=5.0),
        }
    )

    assert row["a"]["target"] == 0.8
    assert row["a"]["seconds"] == 20
    assert row["a"]["ratios"]["ours"] == pytest.approx(20 / 3, abs=0.01)
    assert row["a"]["ratios"]["plain"] == 10
    assert row["b"]["ratios"]["ours"] == 20


def test_a_target_that_ours_never_reaches_counts_nothing():
    row = frozen.compare(
        {
            "a": curve(0.9),
            "b": curve(0.6),
            "ours": curve(0.7, 0.89, each=1.0),
            "plain": curve(0.7),
            "first": curve(0.7),
        }
    )

    assert row["a"]["reached"]["ours"] is None
    assert row["a"]["ratios"]["ours"] == 0


def test_equal_counts_divided_differently_are_equal():
    reached = curves.find_seconds(curve(float(np.float32(379 / 507))), 379 / 507)

    assert reached == 10


def test_the_clock_starts_after_the_imports():
    lines = [
        {"event": "clock", "at": 100.0},
        {"event": "durable", "at": 103.0, "what": "pack", "done": 1, "total": 2},
        {"event": "durable", "at": 104.0, "what": "pack", "done": 2, "total": 2},
        {"event": "metrics", "at": 107.5, "values": {"val_accuracy": 0.5}},
    ]

    described = curves.describe_curve(lines)

    assert described["epochs"] == [{"seconds": 7.5, "val_accuracy": 0.5}]
    assert described["ready"] == {"pack": 4.0}


def test_the_engine_sees_the_split_that_the_folders_show(pictures, tmp_path):
    images = read_dataset(pictures)

    dealt = frozen.deal(images, 1, tmp_path / "dealt")

    seen = read_dataset(dealt.folder)
    assert {s: len(rows) for s, rows in seen.splits.items()} == dealt.images
    for split in ("train", "val"):
        shown = {
            path.stem for path in (dealt.folder / split).rglob("*") if path.is_file()
        }
        assert shown == {text.sha256[:24] for text in seen.describe(seen.splits[split])}
    assert dealt.images["val"] == 16
    assert dealt.images["test"] == 2
    assert sum(dealt.images.values()) == 80


def test_another_seed_deals_other_pictures(pictures, tmp_path):
    images = read_dataset(pictures)

    frozen.deal(images, 1, tmp_path / "one")
    frozen.deal(images, 2, tmp_path / "two")

    one, two = (
        {path.name for path in (tmp_path / name / "val").rglob("*.png")}
        for name in ("one", "two")
    )
    assert one != two


def test_a_folder_is_trained_on_as_it_is(pictures, tmp_path):
    assert open_pictures(pictures, tmp_path / "into") == ("data", pictures)


def test_what_is_no_folder_and_no_zip_is_refused(tmp_path):
    (tmp_path / "data.csv").write_text("filename,label\n")

    with pytest.raises(SystemExit, match=r"must be a folder or a zip.*data\.csv"):
        open_pictures(tmp_path / "data.csv", tmp_path / "into")


def test_dropping_from_memory_leaves_the_files_alone(pictures):
    before = {path: path.read_bytes() for path in pictures.rglob("*.png")}

    drop_from_memory(pictures)

    assert {path: path.read_bytes() for path in pictures.rglob("*.png")} == before
