"""Label tables as JSON lines and Parquet, and hostile ones of both."""

import json
import tracemalloc
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import UserError
from worker.ingest.label_rows import RowBudget, TooManyRowsError
from worker.ingest.label_table import load_label_table

ROWS = [("a.jpg", "cat", "train"), ("b.jpg", "dog", None)]


def load(path, **options):
    return load_label_table(path, path.name, **options)


def rows(table):
    return [(row.filename, row.label, row.split) for row in table.rows]


def write_lines(tmp_path, *lines, name="labels.jsonl", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    return path


def write_parquet(tmp_path, columns, **options):
    path = tmp_path / "labels.parquet"
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, path, **options)
    return path


def good_columns():
    files, labels, splits = map(list, zip(*ROWS, strict=True))
    return {"file_name": files, "label": labels, "split": splits}


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.ndjson"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_lines_are_read(tmp_path, name, encoding):
    lines = [
        json.dumps({"Label": label, "file_name": file, "split": split, "more": [1]})
        for file, label, split in ROWS
    ]
    lines.insert(1, "")

    table = load(write_lines(tmp_path, *lines, name=name, encoding=encoding))

    assert rows(table) == ROWS
    assert [row.line for row in table.rows] == [1, 3]
    assert table.columns == ["Label", "file_name", "split", "more"]


def test_labels_of_json_may_be_numbers_and_truths(tmp_path):
    path = write_lines(
        tmp_path,
        '{"file": "a", "label": 7}',
        '{"file": "b", "label": 7.0}',
        '{"file": "c", "label": true}',
        '{"file": "d", "label": null}',
    )

    assert [row.label for row in load(path).rows] == ["7", "7", "true", ""]


def test_each_object_of_json_may_have_other_keys(tmp_path):
    path = write_lines(
        tmp_path,
        '{"file": "a", "label": "x"}',
        '{"file": "b", "label": "y", "Split": "test", "patient": "p1"}',
        '{"class": "z", "image": "c"}',
        '{"category": "animal", "file": "d", "label": "x"}',
        '{"file": "e"}',
    )

    table = load(path, group_column="patient")

    read = [(row.filename, row.label, row.split, row.group) for row in table.rows]
    assert read == [
        ("a", "x", None, None),
        ("b", "y", "test", "p1"),
        ("c", "z", None, None),
        ("d", "x", None, None),
        ("e", "", None, None),
    ]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_with_too_many_lines_is_refused(tmp_path, kind):
    path = tmp_path / f"labels.{kind}"
    if kind == "csv":
        path.write_text("file,label\na,x\nb,y\n")
    elif kind == "jsonl":
        path.write_text('{"file": "a", "label": "x"}\n' * 2)
    else:
        pq.write_table(pa.table({"file": ["a", "b"], "label": ["x", "y"]}), path)
    budget = RowBudget(3)
    load(path, budget=budget)

    with pytest.raises(TooManyRowsError, match="have more than 3 lines"):
        load(path, budget=budget)


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_a_table_on_a_bad_sector_is_refused_by_its_name(name):
    with pytest.raises(UserError, match=r"“labels\..*” cannot be read: Input/output"):
        load_label_table(Path("/proc/self/mem"), name)


def test_a_table_that_is_gone_is_refused_by_its_name(tmp_path):
    with pytest.raises(UserError, match=r"“labels\.csv” cannot be read: No such file"):
        load(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{not json", "The line is no JSON"),
        ("[1, 2]", "no JSON object"),
        ('{"file": "x", "label": {"a": 1}}', "“label” holds a list or an object"),
        ('{"file": ["x"], "label": "cat"}', "“file” holds a list or an object"),
        ('{"file": "x", "label": ' + "[" * 100_000, "nests lists or objects too"),
        ('{"file": "x", "label": "' + "y" * 200_000 + '"}', "more than 131,072"),
        ('{"file": "x", "label": "' + "y" * 3_000_000 + '"}', "longer than 1,048,576"),
        ('{"file": "x", "label": ' + "9" * 9_000 + "}", "too many digits"),
    ],
)
def test_a_bad_line_of_json_is_named_and_costs_no_other(tmp_path, line, words):
    good = '{"file": "a.jpg", "label": "cat"}'

    table = load(write_lines(tmp_path, good, line, good))

    assert [row.line for row in table.rows] == [1, 3]
    ((number, reason),) = table.faults
    assert number == 2
    assert words in reason


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "is empty"),
        (['{"text": "hello"}'], "keys filename and label"),
        (["hello"], "no JSON"),
    ],
)
def test_json_lines_that_label_nothing_are_refused(tmp_path, lines, words):
    with pytest.raises(UserError, match=words):
        load(write_lines(tmp_path, *lines))


def test_parquet_is_read(tmp_path):
    table = load(write_parquet(tmp_path, good_columns(), row_group_size=1))

    assert rows(table) == ROWS
    assert table.columns == ["file_name", "label", "split"]


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        (pa.array(["cat", None]).dictionary_encode(), ["cat", ""]),
        (pa.array(["cat", "dog"], pa.large_string()), ["cat", "dog"]),
        (pa.array([3, 4], pa.int16()), ["3", "4"]),
        (pa.array([3.0, None]), ["3", ""]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([None, None], pa.null()), ["", ""]),
    ],
)
def test_labels_of_parquet_may_have_any_plain_type(tmp_path, labels, read):
    path = write_parquet(tmp_path, {"path": ["a.jpg", "b.jpg"], "label": labels})

    assert [row.label for row in load(path).rows] == read


def deeply_nested():
    kind = pa.string()
    for _ in range(30):
        kind = pa.list_(kind)
    return pa.array([None, None], kind)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"file": ["a"], "label": [b"\x00\xff"]}, "“label” holds binary, not text"),
        ({"file": [["a"]], "label": ["x"]}, "“file” holds list<"),
        (
            {"image": [{"bytes": b"", "path": "a"}], "label": [1]},
            "“image” holds struct<",
        ),
        ({"file": ["a", "b"], "label": deeply_nested()}, "“label” holds list<"),
        ({"text": ["a"], "label": ["x"]}, "must have the columns filename and label"),
        ({"file": ["a"], "label": ["x" * 200_000]}, "more than 131,072 characters"),
    ],
)
def test_parquet_with_odd_columns_is_refused_with_their_names(tmp_path, columns, words):
    with pytest.raises(UserError, match=words):
        load(write_parquet(tmp_path, columns))


@pytest.mark.parametrize("cut", [0, 3, 200, -9, -1])
def test_damaged_parquet_is_refused_in_a_sentence(tmp_path, cut):
    path = write_parquet(tmp_path, good_columns())
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(UserError, match="is damaged, or no Parquet"):
        load(path)


def test_parquet_with_bytes_flipped_ends_in_rows_or_a_sentence(tmp_path):
    path = write_parquet(tmp_path, good_columns())
    whole = path.read_bytes()
    for at in range(8, len(whole), len(whole) // 4):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            table = load(path)
        except UserError as error:
            assert "labels.parquet" in str(error)  # noqa: PT017 - either is right
        else:
            assert len(table.rows) <= 2


def test_a_row_group_that_would_fill_the_memory_is_refused(tmp_path):
    # Half a gigabyte in some hundred kilobytes: one long label, said over and over.
    word = "x" * 100_000
    column = pa.chunked_array([pa.array([word] * 1_000)] * 6)
    table = pa.table({"file": pa.array(["a"] * 6_000), "label": column})
    path = write_parquet(
        tmp_path, table, row_group_size=10_000, use_dictionary=False, compression="zstd"
    )
    assert path.stat().st_size < 1_000_000

    with pytest.raises(UserError, match="row group 1 has 57"):
        load(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_one_further_column_is_kept_when_it_is_asked_for(tmp_path, kind):
    path = tmp_path / f"labels.{kind}"
    columns = {"file": ["a", "b"], "label": ["x", "y"], "Patient": ["p1", None]}
    if kind == "parquet":
        pq.write_table(pa.table(columns), path)
    elif kind == "csv":
        path.write_text("file,label,Patient\na,x,p1\nb,y,\n")
    else:
        lines = zip(*columns.values(), strict=True)
        entries = [dict(zip(columns, line, strict=True)) for line in lines]
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    def groups(column):
        return [row.group for row in load(path, group_column=column).rows]

    assert groups("patient") == ["p1", None]
    assert groups("nothing") == [None, None]
    assert load(path).columns == ["file", "label", "Patient"]


@pytest.mark.parametrize(
    "value", [{"id": 7}, ["p1"], "p" * 200_000], ids=["object", "list", "long"]
)
def test_a_group_of_json_that_nobody_asked_for_costs_no_line(tmp_path, value):
    entry = {"file": "a.jpg", "label": "cat", "patient": value}
    path = write_lines(tmp_path, json.dumps(entry))

    table, asked = load(path), load(path, group_column="patient")

    assert [(row.filename, row.group) for row in table.rows] == [("a.jpg", None)]
    assert (table.faults, table.group_column) == ([], None)
    assert (asked.rows, len(asked.faults)) == ([], 1)


@pytest.mark.parametrize(
    "value",
    [["p1"], date(2024, 2, 29), "p" * 200_000],
    ids=["list", "date", "long"],
)
def test_a_group_of_parquet_that_nobody_asked_for_costs_no_table(tmp_path, value):
    columns = {"file": ["a.jpg"], "label": ["cat"], "study": [value]}
    path = write_parquet(tmp_path, columns)

    table = load(path)

    assert [(row.filename, row.group) for row in table.rows] == [("a.jpg", None)]
    assert table.group_column is None
    with pytest.raises(UserError, match="its column “study”"):
        load(path, group_column="study")


def test_a_long_table_in_an_old_encoding_is_recognised_wherever_it_shows(tmp_path):
    lines = [f"picture {number}.jpg,plain" for number in range(50_000)]
    lines[45_000:] = [line.replace("plain", "小猫咪") for line in lines[45_000:]]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["file,label", *lines]), encoding="gbk")

    table = load(path)

    assert {row.label for row in table.rows} == {"plain", "小猫咪"}


def test_a_table_is_read_without_holding_its_text(tmp_path):
    count = 8_000
    path = tmp_path / "labels.csv"
    note = "n" * 2_000  # 16 MB of text that nobody asked for
    with path.open("w") as file:
        file.write("file,label,note\n")
        file.writelines(f"{at}.jpg,c{at % 5},{note}\n" for at in range(count))

    tracemalloc.start()
    table = load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(table.rows) == count
    assert peak < 8_000_000, peak
    assert len({id(row.label) for row in table.rows}) == 5
