"""The demo's sample is the same everywhere and as hard as the whole."""

import csv
import io
import zipfile
from collections import Counter

from cli import sample


def test_labels_follow_the_probability():
    cells = sample.list_cells()

    assert len(cells) == 2624
    assert Counter(cell.label for cell in cells) == {"intact": 1803, "defective": 821}
    assert all(
        (cell.probability > 0.5) == (cell.label == "defective") for cell in cells
    )


def test_pick_keeps_the_shares_and_splits_without_overlap():
    cells = sample.list_cells()

    picked, rest = sample.pick(cells, 800)

    assert len(picked) == 800
    assert len(rest) == 2624 - 800
    assert not {cell.path for cell in picked} & {cell.path for cell in rest}
    share = sum(cell.label == "defective" for cell in picked) / 800
    assert abs(share - 821 / 2624) < 0.005


def test_pick_does_not_depend_on_the_order():
    cells = sample.list_cells()

    assert sample.pick(cells, 100) == sample.pick(cells[::-1], 100)


def test_archive_holds_pictures_and_a_table_with_a_header(tmp_path):
    cells = sample.pick(sample.list_cells(), 20)[0]
    advanced = []

    sample.write_archive(cells, tmp_path / "a.zip", advance=lambda: advanced.append(1))

    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))
        names = set(archive.namelist())
    assert len(rows) == len(advanced) == 20
    assert {row["label"] for row in rows} == {"intact", "defective"}
    assert {row["filename"] for row in rows} <= names
