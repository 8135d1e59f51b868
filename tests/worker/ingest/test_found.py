"""What passes between the steps: lists of what was left out."""

from worker.ingest.found import Skip, SkipList


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
