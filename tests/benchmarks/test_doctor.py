"""Planted faults are what they are said to be, and what is found is counted rightly."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import doctor, planted_faults
from benchmarks.planted_faults import Faults
from worker.insight.doctor.finding import Finding


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    root = tmp_path_factory.mktemp("planted")
    random = np.random.default_rng(0)
    for label in ("cat", "dog", "emu"):
        (root / "source" / label).mkdir(parents=True)
        for number in range(40):
            pixels = random.integers(0, 255, (24, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / "source" / label / f"{number}.png")
    (root / "source" / "LICENSE").write_text("no picture")
    return root, planted_faults.plant(root / "source", root / "target", seed=1)


def test_as_many_faults_are_planted_as_are_said(planted):
    root, faults = planted

    files = [path for path in (root / "target").rglob("*") if path.is_file()]
    copies = faults.copies + faults.leaks
    assert len(faults.flips) == 6
    assert len(copies) == 6
    assert len(files) == faults.pictures == 126
    for name in [*faults.flips, *(name for pair in copies for name in pair)]:
        assert (root / "target" / name).is_file()


def test_a_flipped_label_is_never_the_true_one(planted):
    _, faults = planted

    assert all(name.split("/")[1] != truth for name, truth in faults.flips.items())


def test_leaks_go_from_training_to_test(planted):
    _, faults = planted

    for original, copy in faults.leaks:
        assert {original.split("/")[0], copy.split("/")[0]} == {"train", "test"}
        assert original.split("/")[1] == copy.split("/")[1]


def test_recall_counts_the_planted_and_precision_the_told():
    faults = Faults(
        10,
        flips={"train/a/1.jpg": "b"},
        copies=[("train/a/2.jpg", "train/a/3.jpg")],
        leaks=[("train/a/4.jpg", "test/a/5.jpg")],
    )
    own = Finding("k", "near_duplicate", 1, "", "none", names=("train/a/8.jpg", "x"))
    leak = Finding("l", "split_leak", 1, "", "none", names=faults.leaks[0])
    suspect = Finding(
        "m", "suspect_label", 1, "", "none", (), ("train/a/1.jpg",), suggested_label="b"
    )

    copies = doctor.judge_copies([own, leak], faults)
    flips = doctor.judge_flips([suspect], faults)

    assert (copies["duplicate_recall"], copies["duplicate_precision"]) == (0.5, 0.5)
    assert (copies["leak_recall"], copies["leak_precision"]) == (1, 1)
    assert copies["duplicate_own"] == 1
    assert (flips["flip_recall"], flips["flip_corrected"]) == (1, 1)


def test_the_recall_at_half_precision_is_that_of_the_longest_such_beginning():
    faults = Faults(10, flips=dict.fromkeys("abcd", "x"))

    found = doctor.judge_ranking(["a", "-", "b", "-", "-", "c", "-", "-"], faults)

    assert found == {"flip_recall_at_half_precision": 0.75}
