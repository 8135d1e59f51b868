"""What passes between the steps of ingest: files found, files left out, and why."""

import contextlib
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

# Endings that say "this is meant as a picture". They only help to understand the
# folders of an upload; what a file is, its content decides.
PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib", ".gif"}
    | {".tif", ".tiff", ".webp", ".heic", ".heif", ".avif"}
)
# Codes of files that show the same as a picture which is kept: under its label, under
# another one, and one that an earlier version has. The last is no fault.
COPY, CONFLICT, AGAIN = "copy", "conflict", "again"
# Halves of characters, which no file or database takes. Python spells bytes so that are
# no UTF-8, and JSON may hold any.
_HALVES = "\ud800-\udfff"
_HALF = re.compile(f"[{_HALVES}]")
# What steers a terminal, and what turns the order of letters round on a page.
_UNSEEN = re.compile(f"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069{_HALVES}]")
_JUNK_FOLDERS = frozenset({"__macosx", "$recycle.bin", "system volume information"})
_JUNK_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"})


class FoundFile:
    """One file of an upload, not yet looked into.

    An upload may have a million: where one lies is kept as its folder, shared with its
    neighbours, and its name, which takes a third of what a `Path` does.

    Args:
        path: Where its bytes lie now.
        name: The user's name for it, folders separated by `/`.
        sha256: Digest of its bytes where they are known, as of what was unpacked.

    `spelling` is the name as Python spells bytes that are no UTF-8, with halves of
    characters: a table may name the file so. None where they are UTF-8.
    """

    __slots__ = ("_file", "_folder", "name", "sha256", "spelling")

    def __init__(self, path: Path, name: str, sha256: bytes | None = None) -> None:
        folder, _, self._file = str(path).rpartition("/")
        self._folder = sys.intern(folder)
        self.name = name
        self.sha256 = sha256
        self.spelling: str | None = None

    @property
    def path(self) -> Path:
        """Where its bytes lie now."""
        return Path(f"{self._folder}/{self._file}" if self._folder else self._file)

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the name, outermost first."""
        return tuple(self.name.split("/")[:-1])

    @property
    def looks_like_picture(self) -> bool:
        """Whether the name ends like a picture's."""
        return os.path.splitext(self.name)[1].lower() in PICTURE_SUFFIXES  # noqa: PTH122 - a name, ten times as fast

    def put_below(self, source: str) -> None:
        """Names it as a file of one source among several."""
        self.name = join_names(source, self.name)
        if self.spelling is not None:
            self.spelling = join_names(source, self.spelling)


@dataclass(slots=True)
class LabelledFile:
    """A found file with its class, and its split and group where the user gave one.

    Args:
        file: Where it lies, and what the user calls it.
        label: Its class.
        split: The user's wish, if any.
        group: What the column of groups says of it, if anything.
        also: Further classes that a table gives it: only the user knows which is right.
    """

    file: FoundFile
    label: str
    split: str | None = None
    group: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skip:
    """A file that is left out, and the sentence that says why.

    Args:
        file: The user's name for it.
        code: Static word for programs, such as `not_an_image`.
        reason: Sentence for people: what is wrong and, where there is one, the fix.
        same_as: SHA-256 of the picture that is kept and shows the same, if one is.
    """

    file: str
    code: str
    reason: str
    same_as: str | None = None


def plain_name(name: str) -> str:
    """Returns a file's name with a sign that all see for each that nobody does."""
    return _UNSEEN.sub("\ufffd", name)


def has_halves(name: str) -> bool:
    """Whether a name holds half of a character, so that it cannot be written down."""
    return _HALF.search(name) is not None


MOST_SHOWN_CHARACTERS = 500
_MOST_QUOTED_CHARACTERS = 80
_NAMED_IN_SENTENCE = 10


def shorten(text: str, most: int = MOST_SHOWN_CHARACTERS) -> str:
    """Cuts a text of the user's for a report: a cell of a table may have 128 KiB.

    Args:
        text: Of any length.
        most: Characters that are left of it, 1 or more.
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def quote(name: str) -> str:
    """Returns a name of the user's for a sentence, cut so that the sentence is read."""
    return f"“{shorten(name, _MOST_QUOTED_CHARACTERS)}”"


def name_some(names: Sequence[str], joint: str = ", ") -> str:
    """Returns the first of `names`, and how many more there are.

    Args:
        names: As `quote` makes them.
        joint: What stands between two of them.
    """
    shown = joint.join(names[:_NAMED_IN_SENTENCE])
    rest = len(names) - _NAMED_IN_SENTENCE
    return f"{shown} and {rest:,} more" if rest > 0 else shown


def list_first(notes: list[str], most: int) -> list[str]:
    """Returns the first notes, and a sentence on how many more there are."""
    rest = len(notes) - most
    return (
        notes if rest <= 0 else [*notes[:most], f"{rest:,} more notes are not shown."]
    )


class SkipList:
    """Everything left out of one dataset: the first ones by name, all by count.

    An upload may hold a million unusable files; the report keeps `keep` of them, with
    names and reasons that can be read. Each code keeps its first ones, and has a share
    of the places: the system's own files do not crowd out the pictures that could not
    be read.

    Args:
        keep: How many are kept by name.
        before: What an earlier version told by name: of these it is remembered whether
            they are noted again, even if not by name.
    """

    def __init__(self, keep: int = 10_000, *, before: Iterable[Skip] = ()) -> None:
        self._keep = keep
        self._source = ""
        self._noted = self._held = 0
        # By code, each with its number in the order in which all were noted.
        self._kept: dict[str, list[tuple[int, Skip]]] = {}
        self.codes: Counter[str] = Counter()
        self._before = {(skip.file, skip.code) for skip in before}
        self.again: set[tuple[str, str]] = set()  # files and codes of earlier ones

    @contextlib.contextmanager
    def of_source(self, name: str) -> Iterator[None]:
        """Puts the name of the source in front of the files noted meanwhile."""
        self._source = name
        try:
            yield
        finally:
            self._source = ""

    def add(
        self, file: str, code: str, reason: str, *, same_as: str | None = None
    ) -> None:
        """Notes that `file` is left out because of `reason`."""
        name = shorten(plain_name(join_names(self._source, file)))
        reason = shorten(plain_name(reason))
        if (name, code) in self._before:
            self.again.add((name, code))
        self._keep_one(Skip(name, code, reason, same_as))
        self.codes[code] += 1

    def carry(self, skips: Iterable[Skip], codes: Mapping[str, int]) -> None:
        """Notes what was left out of an earlier version.

        Args:
            skips: Those that are known by name.
            codes: How many there are in all.
        """
        for skip in skips:
            self._keep_one(skip)
        self.codes.update(codes)

    @property
    def items(self) -> list[Skip]:
        """Those kept by name, in the order in which they were noted."""
        return [skip for _, skip in sorted(chain.from_iterable(self._kept.values()))]

    @property
    def total(self) -> int:
        """How many files were left out, those not kept by name included."""
        return self.codes.total()

    def _keep_one(self, skip: Skip) -> None:
        own = self._kept.setdefault(skip.code, [])
        if self._held < self._keep:
            self._held += 1
        elif len(own) < self._keep // len(self._kept):
            # Some other code has more than its share.
            max(self._kept.values(), key=len).pop()
        else:
            return
        self._noted += 1
        own.append((self._noted, skip))


def join_names(source: str, file: str) -> str:
    """Names a file of one source among several: `cats.zip/tabby/1.jpg`."""
    return f"{source}/{file}" if source and source != file else file


def junk_reason(name: str) -> str | None:
    """Says why an operating system's own file is left out; None for any other file."""
    *folders, last = PurePosixPath(name).parts or ("",)
    if any(folder.lower() in _JUNK_FOLDERS for folder in folders):
        return "It was added by the operating system, not by you."
    if last.lower() in _JUNK_FILES or last.startswith("._") or last == ".DS_Store":
        return "It was added by the operating system, not by you."
    hidden = next((part for part in (*folders, last) if part.startswith(".")), None)
    if hidden is not None:
        return f"“{hidden}” is hidden (its name begins with a dot)."
    return None
