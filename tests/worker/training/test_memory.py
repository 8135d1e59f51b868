"""What a run keeps in memory does not grow with its dataset.

Why it will not at a million images either: an image costs some twenty bytes of numbers
for as long as it is trained on (`benchmarks/memory.py` lists them). All else is of a
batch, a block of words, or a bounded share of a mapped file, and each of those is held
to its bound here.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import memory
from worker.training import engine_choice
from worker.training.mapped_files import MOST_RESIDENT_BYTES
from worker.training.regression import _MOST_BYTES

ROOT = Path(__file__).resolve().parents[3]
MEGABYTE = 1e6

STATUS = """
import sys
from pathlib import Path

def resident(kind):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind + ":"):
            return int(line.split()[1]) * 1024

"""


def run_python(source, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", STATUS + source, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(word) for word in done.stdout.split()]


def write_manifest(folder, images):
    """A dataset version's manifest alone: nothing is decoded here."""
    numbers = range(images)
    hashes = sorted(hashlib.sha256(b"%d" % number).hexdigest() for number in numbers)
    table = pa.table(
        {
            "path": [f"images/{h[:2]}/{h}.jpg" for h in hashes],
            "source_name": [f"holiday/beach/picture {n:08d}.jpg" for n in numbers],
            "label": [f"class {n % 7}" for n in numbers],
            "split": [("train", "val", "test")[n % 3] for n in numbers],
            "sha256": hashes,
        }
    )
    folder.mkdir()
    # In groups of rows as ingest writes them.
    pq.write_table(table, folder / "manifest.parquet", row_group_size=20_000)
    return folder


READ = """
from worker.training.labelled_images import read_dataset
read_dataset(Path(sys.argv[1]), Path(sys.argv[3]))
before = resident("RssAnon")
images = read_dataset(Path(sys.argv[2]), Path(sys.argv[3]))
print(len(images), resident("RssAnon") - before)
"""


def test_reading_a_dataset_keeps_some_bytes_an_image(tmp_path):
    small = write_manifest(tmp_path / "small", 20_000)
    large = write_manifest(tmp_path / "large", 200_000)

    count, grown = run_python(READ, small, large, tmp_path / "scratch")

    # As Python strings it would be 700 bytes an image: 140 MB.
    assert count == 200_000
    assert grown < 40 * count
    assert not list((tmp_path / "scratch").iterdir())


MAP = """
import numpy as np
from worker.training.pack import Pixels
shards = [np.asarray(np.memmap(sys.argv[1], np.uint8, "r")).reshape(-1, 64, 64, 3)]
pixels = Pixels(shards)
before, most, total = resident("RssFile"), 0, 0
for start in range(0, len(pixels), 32):
    rows = np.arange(start, min(start + 32, len(pixels)))
    if start % 64:
        total += int(pixels[rows].sum())
    else:
        total += sum(int(pixels[int(row)].sum()) for row in rows)
    most = max(most, resident("RssFile") - before)
print(most, total)
"""


def test_a_pack_that_was_read_is_not_resident(tmp_path):
    size = 16_000 * 64 * 64 * 3
    np.full(size, 3, np.uint8).tofile(tmp_path / "shard")

    most, total = run_python(MAP, tmp_path / "shard")

    assert total == 3 * size
    assert size > 5 * MOST_RESIDENT_BYTES
    assert most < 1.5 * MOST_RESIDENT_BYTES


@pytest.mark.timeout(600)
def test_a_training_run_s_peak_does_not_grow_with_its_dataset(tmp_path):
    # Below this many another engine computes the features, with a peak of its own.
    fewest = engine_choice.WORTH_MEASURING
    rows = []
    for images in (fewest, 5 * fewest):
        (tmp_path / str(images)).mkdir()
        rows.append(memory.measure(tmp_path / str(images), images, side=32))

    found = memory.compare(rows)

    assert rows[0]["peak_mb"] > 200
    assert found["growth"] < memory.MOST_GROWTH, rows


REGRESSION = """
import numpy as np
from worker.training.regression import fit_regression

def fit(rows):
    labels = np.arange(rows) % 2
    features = np.random.default_rng(0).standard_normal((rows, 1280), np.float32)
    features[:, 0] += 3 * labels
    before, cut = resident("VmRSS"), rows // 10
    fit_regression([features], labels, train=np.arange(cut, rows),
                   held_out=np.arange(cut), classes=2, seed=0)
    return resident("VmHWM") - before

fit(200)
print(fit(40_000))
"""


def test_the_regression_holds_no_more_rows_than_its_bound_allows():
    (grown,) = run_python(REGRESSION)

    assert grown < 1.2 * _MOST_BYTES
