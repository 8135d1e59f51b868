"""Packs: right pixels, resumed, shared, mended; and the datasets they are made of."""

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from shared.errors import UserError
from worker import decode
from worker.decode import decode_image
from worker.training import labelled_images
from worker.training import pack as pack_module
from worker.training.pack import open_or_build_pack, read_dataset

SIZE = 32
REPO = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path):
    """Two classes of 20 JPEGs each, of different shapes."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 255, (20 + number, 40, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / label / f"{number}.jpg")
    return tmp_path / "pets"


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(pack_module, "SHARD_BYTES", SIZE * SIZE * 3 * 8)


def build(folder, caches, **options):
    return open_or_build_pack(
        read_dataset(folder),
        image_size_px=SIZE,
        fit="stretch",
        caches=caches,
        **options,
    )


def shard_times(pack):
    return {path.name: path.stat().st_mtime_ns for path in pack.folder.glob("*.u8")}


def test_pixels_are_those_of_the_decode_function_in_the_datasets_order(
    folder, tmp_path, small_shards
):
    pack = build(folder, tmp_path)

    rows = (39, 0, 7, 8)
    for row, image in zip(rows, pack.dataset.describe(rows), strict=True):
        encoded = tf.constant(image.path.read_bytes())
        np.testing.assert_array_equal(pack.pixels[row], decode_image(encoded, SIZE))
    assert pack.pixels.shape == (40, SIZE, SIZE, 3)
    assert pack.classes == ["cat", "dog"]
    assert np.bincount(pack.labels).tolist() == [20, 20]
    assert {split: len(rows) for split, rows in pack.splits.items()} == {
        "train": 28,
        "val": 6,
        "test": 6,
    }


def test_pixels_take_slices_and_index_arrays(folder, tmp_path, small_shards):
    pixels = build(folder, tmp_path).pixels
    whole = pixels[:]

    np.testing.assert_array_equal(pixels[3:30:5], whole[3:30:5])
    np.testing.assert_array_equal(
        pixels[np.array([39, 0, 0, -2])], whole[[39, 0, 0, -2]]
    )
    np.testing.assert_array_equal(pixels[np.arange(40) % 3 == 0], whole[::3])
    assert pixels[np.array([], int)].shape == (0, SIZE, SIZE, 3)
    with pytest.raises(IndexError):
        pixels[np.array([40])]


def test_a_second_opening_decodes_nothing(folder, tmp_path, small_shards):
    before = shard_times(build(folder, tmp_path))
    reports = []

    after = shard_times(build(folder, tmp_path, report=lambda *n: reports.append(n)))

    assert before == after
    assert reports == [(40, 40)]


@pytest.mark.parametrize("harm", ["flip", "cut", "delete", "no_index", "bad_index"])
def test_a_harmed_pack_is_mended_without_redoing_the_rest(
    folder, tmp_path, small_shards, harm
):
    pack = build(folder, tmp_path)
    before, pixels = shard_times(pack), pack.pixels[:]
    victim = pack.folder / "shard-000002.u8"
    if harm == "flip":
        data = bytearray(victim.read_bytes())
        data[100] ^= 1
        victim.write_bytes(data)
    elif harm == "cut":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif harm == "delete":
        victim.unlink()
    elif harm == "no_index":
        (pack.folder / "pack.json").unlink()
    else:
        (pack.folder / "pack.json").write_text("{")

    mended = build(folder, tmp_path)

    after = shard_times(mended)
    np.testing.assert_array_equal(mended.pixels[:], pixels)
    del before[victim.name], after[victim.name]
    assert after == before


def test_a_deleted_pack_is_built_again(folder, tmp_path):
    pixels = build(folder, tmp_path).pixels[:]
    shutil.rmtree(tmp_path / "packs")

    np.testing.assert_array_equal(build(folder, tmp_path).pixels[:], pixels)


def test_a_pack_made_by_other_rules_is_not_used_and_left_alone(
    folder, tmp_path, monkeypatch
):
    pack = build(folder, tmp_path)
    before = shard_times(pack)
    monkeypatch.setattr(decode, "DECODE_VERSION", -1)

    other = build(folder, tmp_path)

    assert other.folder != pack.folder
    assert shard_times(pack) == before


@pytest.mark.parametrize("harmed", ["pack.json", "shard-000000.u8"])
def test_it_is_told_that_damaged_pictures_are_decoded_again(
    folder, tmp_path, harmed, capfd
):
    path = build(folder, tmp_path).folder / harmed
    path.write_bytes(b"[")
    before = capfd.readouterr().out

    build(folder, tmp_path)

    assert "decoded again" not in before
    assert f"files in {path.parent} are damaged" in capfd.readouterr().out


BUILD = """
import sys
from pathlib import Path
from worker.training import pack
pack.SHARD_BYTES = 32 * 32 * 3 * 8
def report(done, total):
    print("finished", done, flush=True)
    if done >= int(sys.argv[3]):
        sys.stdin.read()
pack.open_or_build_pack(pack.read_dataset(Path(sys.argv[1])), image_size_px=32,
    fit="stretch", caches=Path(sys.argv[2]), report=report, threads=1)
"""


def start_builder(folder, caches, pause_at):
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder), str(caches), str(pause_at)],
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_build_goes_on_with_its_finished_shards(
    folder, tmp_path, small_shards
):
    builder = start_builder(folder, tmp_path, pause_at=16)
    # Between the reports stand the events of the engine.
    while not builder.stdout.readline().startswith("finished 16"):
        assert builder.poll() is None
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    (left,) = (tmp_path / "packs").glob("*/*")
    before = {path.name: path.stat().st_mtime_ns for path in left.glob("*.u8")}
    reports = []

    pack = build(folder, tmp_path, report=lambda *numbers: reports.append(numbers))

    assert len(before) >= 2
    assert reports[0][0] >= 16
    assert before.items() <= shard_times(pack).items()


def test_two_builders_at_once_make_one_right_pack(folder, tmp_path, small_shards):
    first = start_builder(folder, tmp_path / "shared", pause_at=99)
    second = start_builder(folder, tmp_path / "shared", pause_at=99)

    assert first.communicate()[0].split()[-1] == "40"
    assert second.communicate()[0].split()[-1] == "40"

    shared = build(folder, tmp_path / "shared").pixels[:]
    np.testing.assert_array_equal(shared, build(folder, tmp_path / "own").pixels[:])


def test_an_unreadable_picture_is_named(folder, tmp_path):
    (folder / "cat" / "page.jpg").write_text("<html>")

    with pytest.raises(UserError, match=r"“cat/page\.jpg” is no readable JPEG or PNG"):
        build(folder, tmp_path)


def test_a_vanished_picture_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(labelled_images, "APPEAR_SECONDS", 0.5)
    dataset = read_dataset(folder)
    (folder / "cat" / "3.jpg").unlink()

    with pytest.raises(UserError, match=r"picture “cat/3\.jpg” has vanished"):
        open_or_build_pack(dataset, image_size_px=SIZE, fit="stretch", caches=tmp_path)


def test_a_picture_that_comes_back_is_waited_for(folder, tmp_path):
    dataset, picture = read_dataset(folder), folder / "cat" / "3.jpg"
    picture.rename(tmp_path / "hidden")
    back = threading.Timer(1.5, lambda: (tmp_path / "hidden").rename(picture))
    back.start()

    pack = open_or_build_pack(
        dataset, image_size_px=SIZE, fit="stretch", caches=tmp_path
    )

    assert len(pack.pixels) == 40


def test_a_folder_out_of_sight_is_the_disks_failure(folder, tmp_path):
    dataset = read_dataset(folder)
    folder.rename(tmp_path / "unmounted")

    with pytest.raises(FileNotFoundError):
        open_or_build_pack(dataset, image_size_px=SIZE, fit="stretch", caches=tmp_path)


def test_folder_and_table_of_the_same_images_are_the_same_dataset(folder):
    rows = [f"{p.parent.name}/{p.name};{p.parent.name}" for p in folder.glob("*/*")]
    table = folder / "labels.csv"
    table.write_text("filename;label\n" + "\n".join(rows))

    from_table, from_folder = read_dataset(table), read_dataset(folder)

    assert from_table.fingerprint == from_folder.fingerprint
    hashes = [image.sha256 for image in from_table.describe(range(40))]
    assert hashes == sorted(hashes)


def test_a_dataset_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="`dataset` must be"):
        read_dataset(tmp_path / "nowhere")
