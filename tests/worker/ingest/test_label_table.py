"""Labels from a CSV: every way of writing one, and what does not fit together."""

import sys
import tempfile
from pathlib import Path

import pytest

from shared.errors import UserError
from worker.ingest.found import FoundFile, SkipList
from worker.ingest.label_table import label_by_tables, load_label_table

PLAIN = "filename,label\na.jpg,cat\nb.jpg,dog\n"


def parse(data, name="labels.csv"):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table")
        path.write_bytes(data)
        return load_label_table(path, name)


def rows(text, name="labels.csv", encoding="utf-8"):
    table = parse(text.encode(encoding), name)
    return [(row.filename, row.label, row.split) for row in table.rows]


def label(text, *names, table="labels.csv"):
    """Returns {name: (label, split)}, the skips, and what has several labels."""
    skips = SkipList()
    files = [FoundFile(Path("nowhere"), name) for name in names]
    parsed = parse(text.encode(), table)
    labelled = label_by_tables(files, [parsed], skips)
    labels = {f.file.name: (f.label, f.split) for f in labelled.files}
    contested = [
        (entry.file.name, (entry.label, *entry.also), entry.split)
        for entry in labelled.contested
    ]
    return labels, skips, contested


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_common_delimiter_and_line_end_is_read(delimiter, end):
    text = PLAIN.replace(",", delimiter).replace("\n", end)

    assert rows(text) == [("a.jpg", "cat", None), ("b.jpg", "dog", None)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk", "latin-1"])
def test_every_common_encoding_is_read(encoding):
    word = {"gbk": "小猫咪", "latin-1": "Kätzchen"}.get(encoding, "Кошка 猫")

    read = rows(f"filename,label\na.jpg,{word}\n", encoding=encoding)

    assert read == [("a.jpg", word, None)]


@pytest.mark.parametrize(
    "header",
    ["FileName , LABEL", "file,class", "image,category", '"image_path","target"'],
)
def test_columns_may_go_by_their_other_names(header):
    assert rows(f"{header}\na.jpg,cat\n") == [("a.jpg", "cat", None)]


def test_columns_may_stand_in_any_order_among_others():
    read = rows("id,split,label,size,filename\n7,test,cat,9,a.jpg\n")

    assert read == [("a.jpg", "cat", "test")]


def test_quoted_cells_may_hold_delimiters_and_line_ends():
    read = rows('filename,label\n"a, b;c.jpg","cat\nof mine"\nb.jpg,dog\n')

    assert read[0][0] == "a, b;c.jpg"
    assert read[1] == ("b.jpg", "dog", None)


@pytest.mark.parametrize("first", ['"a.jpg,cat', 'a.jpg,"cat'])
def test_a_stray_quotation_mark_is_told_by_its_line(first):
    """It makes one cell of all up to the next one."""
    text = f'filename,label\n{first}\nb.jpg,dog\nc.jpg,"dog"\nd.jpg,cat\n'

    table = parse(text.encode(), "labels.csv")

    assert [(row.line, row.filename) for row in table.rows] == [(5, "d.jpg")]
    ((number, reason),) = table.faults
    assert number == 2
    assert "opens a cell in line 2, which goes on to line 4" in reason


@pytest.mark.parametrize("line", ['"b.jpg,dog', 'b.jpg,"dog', 'b.jpg,dog,"a note'])
def test_a_quotation_mark_that_is_never_closed_is_told(line):
    text = f"filename,label,note\na.jpg,cat,\n{line}\nc.jpg,dog,\n"

    table = parse(text.encode(), "labels.csv")

    assert [row.filename for row in table.rows] == ["a.jpg"]
    assert [number for number, _ in table.faults] == [3]
    assert "goes on to line 4" in table.faults[0][1]


def test_empty_lines_are_nothing():
    assert len(rows(PLAIN + "\n,\n\n")) == 2


def test_a_table_named_after_a_split_gives_it():
    assert rows(PLAIN, name="sets/Test.csv")[0] == ("a.jpg", "cat", "test")


@pytest.mark.parametrize("text", ["", "a.jpg,cat\n", "filename,colour\na,b\n"])
def test_a_first_line_without_the_columns_is_refused_with_what_it_is(text):
    with pytest.raises(UserError, match="must name the columns filename and label"):
        rows(text)


def test_a_cell_without_end_is_refused_by_the_name_of_the_table():
    text = 'filename,label\na,b\n"' + "x" * 200_000

    with pytest.raises(UserError, match=r"“labels\.csv” cannot .* begins in line 3"):
        rows(text)


def test_a_first_line_with_a_cell_without_end_is_refused_by_the_name_of_the_table():
    with pytest.raises(UserError, match=r"“labels\.csv” cannot .* in its first line"):
        rows("x" * 200_000 + "\n1,2\n")


@pytest.mark.parametrize("split", ["train", "Validation", "TEST", ""])
def test_the_split_of_a_line_is_kept(split):
    labels, _, _ = label(f"filename,label,split\na.jpg,cat,{split}\n", "a.jpg")

    expected = {"Validation": "val", "TEST": "test", "": None}.get(split, split)
    assert labels == {"a.jpg": ("cat", expected)}


@pytest.mark.parametrize(
    ("named", "lies_at", "table"),
    [
        ("a.jpg", "a.jpg", "labels.csv"),
        ("./a.jpg", "a.jpg", "labels.csv"),
        ("images/a.jpg", "images/a.jpg", "labels.csv"),
        ("images\\a.jpg", "images/a.jpg", "labels.csv"),
        ("a.jpg", "images/a.jpg", "labels.csv"),
        ("a", "images/a.jpg", "labels.csv"),
        ("A.JPG", "images/a.jpg", "labels.csv"),
        ("images/a.jpg", "wrap/images/a.jpg", "wrap/labels.csv"),
        ("../images/a.jpg", "images/a.jpg", "meta/labels.csv"),
        ("v1.2", "v1.2.png", "labels.csv"),
    ],
)
def test_a_line_finds_its_file(named, lies_at, table):
    labels, skips, _ = label(f"filename,label\n{named},cat\n", lies_at, table=table)

    assert labels == {lies_at: ("cat", None)}
    assert skips.total == 0


def test_the_file_beside_the_table_is_meant_before_others_of_its_name():
    labels, _, _ = label(
        "filename,label\na.jpg,cat\n", "one/a.jpg", "two/a.jpg", table="two/labels.csv"
    )

    assert labels == {"two/a.jpg": ("cat", None)}


def test_a_name_that_fits_two_files_is_never_guessed():
    labels, skips, _ = label("filename,label\na.jpg,cat\n", "one/a.jpg", "two/a.jpg")

    assert labels == {}
    assert skips.items[0].file == "labels.csv, line 2"
    assert "fits 2 files; name its folder too" in skips.items[0].reason


@pytest.mark.parametrize("name", ["{:05d}/image.png", "{:05d}/pictures/0.png"])
def test_files_that_share_a_name_are_not_compared_with_each_other(name):
    count, calls = 2000, 0
    names = [name.format(number) for number in range(count)]
    text = "filename,label\n" + "".join(f"{line},cat\n" for line in names)

    def count_call(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count_call)
    try:
        labels, _, _ = label(text, *(f"wrap/{line}" for line in names))
    finally:
        sys.setprofile(None)

    assert len(labels) == count
    assert calls < 200 * count


def test_a_name_deeper_than_any_file_is_none():
    _, skips, _ = label("filename,label\nx/y/z/a.jpg,cat\n", "y/a.jpg")

    assert skips.items[0].reason == "There is no file “x/y/z/a.jpg”."


def test_what_does_not_fit_together_is_reported_line_by_line():
    text = (
        "filename,label,split\n"
        "a.jpg,cat,train\n"
        "gone.jpg,cat,\n"
        ",cat,\n"
        "b.jpg,,\n"
        "c.jpg,cat,sometimes\n"
    )
    labels, skips, _ = label(text, "a.jpg", "b.jpg", "c.jpg")

    assert labels == {"a.jpg": ("cat", "train")}
    assert {skip.file: skip.reason for skip in skips.items} == {
        "labels.csv, line 3": "There is no file “gone.jpg”.",
        "labels.csv, line 4": "The line names no file.",
        "labels.csv, line 5": "The line gives “b.jpg” no label.",
        "labels.csv, line 6": ("The split “sometimes” is none of train, val and test."),
        "b.jpg": "The label table has no line for it.",
        "c.jpg": "The label table has no line for it.",
    }


def test_a_file_with_two_labels_is_kept_apart_with_both():
    labels, skips, contested = label(
        "filename,label\na.jpg,dog\na.jpg,cat\nb.jpg,cat\nb.jpg,cat\n",
        "a.jpg",
        "b.jpg",
    )

    assert labels == {"b.jpg": ("cat", None)}
    assert contested == [("a.jpg", ("cat", "dog"), None)]
    assert skips.total == 0


@pytest.mark.parametrize(("other", "split"), [("test", None), ("train", "train")])
def test_of_two_labels_the_split_counts_where_it_is_one(other, split):
    text = f"filename,label,split\na.jpg,cat,train\na.jpg,dog,{other}\n"

    _, _, contested = label(text, "a.jpg")

    assert contested == [("a.jpg", ("cat", "dog"), split)]


def test_two_splits_for_one_file_are_a_conflict_too():
    labels, skips, _ = label(
        "filename,label,split\na.jpg,cat,train\na.jpg,cat,test\n", "a.jpg"
    )

    assert labels == {}
    assert "“test” and “train”" in skips.items[0].reason
