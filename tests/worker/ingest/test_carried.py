"""Counts of what was left out do not grow by what is brought again."""

import pytest

from tests.worker.ingest.test_found import fill
from worker.ingest.carried import carry_over
from worker.ingest.found import AGAIN, SkipList
from worker.ingest.grouping import Grouping
from worker.ingest.join import Joined
from worker.ingest.version_source import Parent

KEEP = 10  # by name


def make_parent(tmp_path, **numbers):
    """A version that left out so many files of each code."""
    skips = SkipList(KEEP)
    for code, count in numbers.items():
        fill(skips, code, count)
    return Parent(
        tmp_path, "version 1", 1, "f", Grouping(), {},
        skipped=skips.items, skipped_by_code=dict(skips.codes),
    )  # fmt: skip


@pytest.mark.parametrize("again", [0, 500])
def test_files_that_come_again_are_counted_once(tmp_path, again):
    parent = make_parent(tmp_path, damaged=40)
    skips = SkipList(KEEP, before=parent.skipped)
    fill(skips, AGAIN, again)  # they take half of the names' places
    fill(skips, "damaged", 40)

    carry_over(skips, parent, Joined([], []), ())

    assert skips.codes["damaged"] == 40
    assert all(skip.reason == "It is so." for skip in skips.items)


def test_files_that_do_not_come_again_are_all_told_of(tmp_path):
    parent = make_parent(tmp_path, damaged=40, again=30)
    skips = SkipList(KEEP, before=parent.skipped)
    fill(skips, "junk", 5)

    carry_over(skips, parent, Joined([], []), ())

    assert skips.codes == {"junk": 5, "damaged": 40}
    assert {skip.code for skip in skips.items} == {"junk", "damaged"}
