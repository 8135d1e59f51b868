"""Words on disk: the right ones, in any order, from any thread."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from worker.training.image_texts import BLOCK_ROWS, SCHEMA, ImageTexts

IMAGES = 2 * BLOCK_ROWS + 7


def make_blocks():
    for start in range(0, IMAGES, BLOCK_ROWS):
        numbers = range(start, min(start + BLOCK_ROWS, IMAGES))
        columns = [[f"{kind}{n}" for n in numbers] for kind in ("Pfäd/", "n", "s")]
        yield pa.record_batch([pa.array(one) for one in columns], SCHEMA)


@pytest.fixture
def texts(tmp_path):
    return ImageTexts(make_blocks(), tmp_path / "scratch")


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [0],
        [IMAGES - 1, 0, BLOCK_ROWS, BLOCK_ROWS - 1, 0],
        range(IMAGES),
        np.random.default_rng(0).integers(0, IMAGES, 500),
    ],
)
def test_rows_come_in_the_order_they_are_asked_for(texts, rows):
    taken = texts.take(np.asarray(rows, int)).to_pydict()

    assert taken["path"] == [f"Pfäd/{row}" for row in rows]
    assert taken["name"] == [f"n{row}" for row in rows]
    assert taken["sha256"] == [f"s{row}" for row in rows]


def test_threads_may_read_at_once(texts):
    def read(row):
        return texts.take(np.array([row]))["name"][0].as_py()

    rows = np.random.default_rng(1).integers(0, IMAGES, 300)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, rows)) == [f"n{row}" for row in rows]


def test_nothing_is_left_in_the_folder(texts, tmp_path):
    assert not list((tmp_path / "scratch").iterdir())
