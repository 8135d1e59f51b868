"""Where a label table and a root go among several places."""

import pytest

from shared.errors import UserError
from shared.source_places import arrange

ONE, TWO = {"path": "/sets/one"}, {"path": "/sets/two"}
TABLE = {"path": "/sets/list.csv"}
STORE = {"address": "s3://pictures/more/"}
ROOT = "s3://pictures"


@pytest.mark.parametrize(
    ("places", "labels", "root", "sources"),
    [
        ([ONE, TWO], None, None, [ONE, TWO]),
        ([ONE], "/l.csv", None, [{**ONE, "labels": "/l.csv"}]),
        ([ONE, TWO], "/l.csv", None, [ONE, TWO, {"path": "/l.csv"}]),
        ([ONE], "s3://t/l.csv", None, [ONE, {"address": "s3://t/l.csv"}]),
        (
            [STORE, ONE],
            "l.csv",
            None,
            [{**STORE, "labels": "l.csv"}, {**ONE, "labels": "l.csv"}],
        ),
        ([TABLE], None, ROOT, [{**TABLE, "root": ROOT}]),
        ([ONE], None, ROOT, [{**ONE, "root": ROOT}]),
        ([ONE, TABLE], None, ROOT, [ONE, {**TABLE, "root": ROOT}]),
        ([ONE, TWO], "/l.csv", ROOT, [ONE, TWO, {"path": "/l.csv", "root": ROOT}]),
    ],
)
def test_table_and_root_stand_where_they_belong(places, labels, root, sources):
    assert arrange(places, labels=labels, root=root) == sources


def test_a_root_without_a_table_is_refused():
    with pytest.raises(UserError, match="Name the table, too"):
        arrange([ONE, STORE], labels=None, root=ROOT)
