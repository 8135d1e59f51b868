"""Whether folders make groups: as ingest, which groups by them, would say."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.picture_folders import makes_groups
from worker.ingest.folder_groups import name_folders

CLASSES = ("cat", "dog")
FOLDERS = st.sampled_from(["cat", "dog", " cat", "Train", "test", "p1", "p2", "p3"])
NAMES = st.lists(
    st.builds(
        lambda folders, number: "/".join([*folders, f"{number}.png"]),
        st.lists(FOLDERS, max_size=4),
        st.integers(0, 99),
    ),
    max_size=6,
)


@given(NAMES)
@example(["p1/cat/1.png", "p2/cat/1.png"])
@example(["p1/cat/1.png", "cat/1.png", "cat/2.png"])
@example(["all/p1/cat/1.png", "all/cat/1.png", "all/cat/2.png"])
@settings(max_examples=300, deadline=None, derandomize=True)
def test_there_are_groups_where_ingest_finds_three(names):
    folders = name_folders(names, CLASSES)
    groups = len(set(folders) - {None}) + folders.count(None)

    assert makes_groups(names, CLASSES) == (any(folders) and groups >= 3)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], False),
        (["cat/1.png", "dog/1.png", "dog/2.png"], False),
        (["cat/p1/1.png", "cat/p2/1.png", "dog/p3/1.png"], True),
        (["train/p1/cat/1.png", "val/p2/cat/1.png", "test/p3/cat/1.png"], True),
        (["cat/p1/1.png", "cat/p2/1.png"], False),
    ],
)
def test_folders_beside_class_and_split_make_groups(names, expected):
    assert makes_groups(names, CLASSES) is expected
