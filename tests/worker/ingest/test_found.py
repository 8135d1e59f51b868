"""What passes between the steps: lists of what was left out, and names of classes."""

import pytest

from worker.ingest.found import Skip, SkipList, clean_label


def fill(skips, code, count):
    for number in range(count):
        skips.add(f"{code} {number}", code, "It is so.")


def counts(skips):
    codes = [skip.code for skip in skips.items]
    return {code: codes.count(code) for code in codes}


def test_a_flood_of_one_code_crowds_out_no_other():
    skips = SkipList(keep=100)
    fill(skips, "junk", 1_000)
    fill(skips, "damaged", 30)
    fill(skips, "copy", 1_000)

    assert counts(skips) == {"junk": 37, "damaged": 30, "copy": 33}
    assert skips.codes == {"junk": 1_000, "damaged": 30, "copy": 1_000}
    assert skips.total == 2_030


def test_each_code_keeps_its_first_in_the_order_of_noting():
    skips = SkipList(keep=4)
    fill(skips, "junk", 3)
    fill(skips, "damaged", 3)
    fill(skips, "junk", 3)

    assert [skip.file for skip in skips.items] == [
        "junk 0", "junk 1", "damaged 0", "damaged 1",
    ]  # fmt: skip


def test_what_is_carried_is_counted_and_stands_behind():
    skips = SkipList(keep=3)
    fill(skips, "damaged", 2)

    old = [Skip(f"old {number}", "damaged", "It was so.") for number in range(2)]
    skips.carry(old, {"damaged": 7})

    names = [skip.file for skip in skips.items]
    assert names == ["damaged 0", "damaged 1", "old 0"]
    assert skips.codes == {"damaged": 9}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" cat ", "cat"),
        ("hot \t\n dog", "hot dog"),
        ("hot\u00a0dog", "hot dog"),
        ("\x1b[31mred\x1b[0m", "\ufffd[31mred\ufffd[0m"),
        ("a\x9b2Jb\x00", "a\ufffd2Jb\ufffd"),
        ("\ufeffcat\u200b", "cat"),
        ("\u202etac", "tac"),
        ("half\ud83d", "half\ufffd"),
        ("\u00ad", ""),
    ],
)
def test_a_label_holds_nothing_that_steers_a_terminal(text, label):
    assert clean_label(text) == label


@pytest.mark.parametrize(
    "label",
    [
        "\U0001f468\u200d\U0001f33e",  # a farmer: two signs, joined
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, not joined
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\U0001fabf",  # a goose, which is younger than some Pythons
        "\u96cf\u83ca",
    ],
)
def test_a_label_keeps_what_its_script_needs(label):
    assert clean_label(label) == label
