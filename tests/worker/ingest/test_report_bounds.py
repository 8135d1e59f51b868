"""What a report tells of bad files stays short, whatever is wrong with an upload."""

from pathlib import Path
from types import SimpleNamespace

from worker.ingest.assemble import Version, assemble
from worker.ingest.collect import Collected
from worker.ingest.content import Merged
from worker.ingest.dealing import parse_dealing
from worker.ingest.found import FoundFile, SkipList
from worker.ingest.join import Joined
from worker.ingest.labels import note_lost_classes, note_similar_labels
from worker.ingest.limits import Limits
from worker.ingest.report import build_report
from worker.ingest.request import Request
from worker.ingest.verify import Picture


def test_of_many_conflicts_some_are_listed_with_some_of_their_names():
    group = [
        SimpleNamespace(name=f"{number}.png", label=f"class {number % 2}")
        for number in range(50)
    ]
    merged = Merged([], [], [group, *[group[:2]] * 20_000], 0)

    report = build_report(
        Version(Joined([], []), [], merged, Collected(), SkipList(), Limits(), {})
    )

    assert (len(report["conflicts"]), report["conflicts_total"]) == (10_000, 20_001)
    first = report["conflicts"][0]
    assert (len(first["files"]), first["files_total"]) == (20, 50)
    assert first["labels"] == ["class 0", "class 1"]


def test_a_name_or_a_reason_of_any_length_is_cut():
    skips = SkipList()

    skips.add("n" * 4096, "bad_line", "r" * 131_072)

    (skip,) = skips.items
    assert len(skip.file) == len(skip.reason) == 500
    assert skip.reason.endswith("r…")


def test_of_very_many_notes_the_first_are_kept_and_all_are_cut():
    collected = Collected(notes=[f"{at} {'n' * 131_072}" for at in range(3_000)])

    report = build_report(
        Version(Joined([], []), [], Merged([], [], [], 0), collected, SkipList(),
                Limits(), {})
    )  # fmt: skip

    *notes, last = report["notes"]
    assert (len(notes), last) == (100, "2,900 more notes are not shown.")
    assert notes[99].startswith("99 n")
    assert {len(note) for note in notes} == {2_000}


def test_many_classes_that_are_gone_or_alike_are_told_in_few_words():
    names = [f"{at:04d}{'c' * 131_072}" for at in range(3_000)]
    twins = [name.upper() for name in names]

    gone = note_lost_classes([*names, "kept"], ["kept"])
    alike = note_similar_labels([*names, *twins])

    assert len(gone) == 1
    assert "and 2,990 more are gone" in gone[0]
    assert alike[10:] == ["2,990 more groups of classes have nearly the same names."]
    assert max(map(len, gone + alike)) < 1_000


class CountedLabel(str):
    """A label that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __ne__(self, other):
        CountedLabel.compared += 1
        return super().__ne__(other)

    def __eq__(self, other):
        CountedLabel.compared += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def picture(name, label, shows):
    digest = shows.encode().ljust(32, b"\0")
    file = FoundFile(Path("nowhere"), name)
    return Picture(
        digest, digest, CountedLabel(label), None, name, file, None, ".png", 1, 1, 1, ()
    )


def test_a_picture_under_two_labels_is_told_of_without_comparing_all_with_all():
    count = 1000
    good = [
        picture(f"{label}/{number}", label, f"{label}{number}")
        for label in ("cat", "dog")
        for number in range(3)
    ]
    same = [picture(f"cat/{number:04d}", "cat", "same") for number in range(count)]
    same.append(picture("dog/last", "dog", "same"))
    skips = SkipList()

    assemble(
        Request([], Limits(), parse_dealing({})),
        None,
        [*good, *same],
        collected=Collected(),
        skips=skips,
        report=lambda _done, _total: None,
    )

    reasons = {skip.file: skip.reason for skip in skips.items}
    assert "“dog/last”, which is “dog”" in reasons["cat/0999"]
    assert "“cat/0000”, which is “cat”" in reasons["dog/last"]
    assert CountedLabel.compared < 10 * count
