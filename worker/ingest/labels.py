"""Labels from folders: one folder per class, below a wrapper or train/ val/ test/.

People pack datasets in a few ways. Understood are `CLASS/picture`, the same in one or
more outer folders that hold everything, the same below `train/`, `val/` and `test/`,
and folders within a class folder (the outermost names the class).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from shared.class_names import clean_label
from shared.picture_folders import SPLIT_ALIASES
from worker.ingest.found import (
    FoundFile,
    LabelledFile,
    SkipList,
    name_some,
    quote,
)

_NOTED_ALIKE = 10


@dataclass(slots=True)
class Labelled:
    """What the labels of an upload came to.

    Args:
        files: Every file with a label.
        notes: Sentences for the user about how the upload was understood.
        contested: Files to which a table gives several labels.
        group_column: Of a table, where one names groups.
    """

    files: list[LabelledFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    contested: list[LabelledFile] = field(default_factory=list)
    group_column: str | None = None

    def extend(self, other: "Labelled") -> None:
        """Adds the labels of another source."""
        self.files += other.files
        self.notes += [note for note in other.notes if note not in self.notes]
        self.contested += other.contested
        self.group_column = self.group_column or other.group_column


def label_by_folder(
    files: Sequence[FoundFile],
    skips: SkipList,
    *,
    source_label: str | None = None,
    source_split: str | None = None,
) -> Labelled:
    """Labels the files of one source by the folders they lie in.

    Args:
        files: Found files, junk already left out.
        skips: Receives the files that lie in no class folder.
        source_label: Label of files in a source that has no folders at all: the name
            of one archive among several. None leaves such files out.
        source_split: Split of all files where the folders name none.
    """
    wrapper = _find_wrapper(files)
    has_splits = _has_split_folders(files, wrapper)
    labelled = Labelled()
    is_flat = not any(file.folders for file in files)
    for found in files:
        split, label = source_split, None
        below = _below(found, wrapper)
        if has_splits and below:
            split = SPLIT_ALIASES.get(below[0].lower(), source_split)
            below = below[1:] if below[0].lower() in SPLIT_ALIASES else below
        if below:
            label = clean_label(below[0])
        elif is_flat:
            label = clean_label(source_label or "")
        if not label:
            skips.add(found.name, "no_label", _no_label_reason(found))
            continue
        labelled.files.append(LabelledFile(found, label, split))
    return labelled


def note_similar_labels(labels: Iterable[str]) -> list[str]:
    """Returns sentences about classes whose names differ by upper case or blanks."""
    spellings: dict[str, set[str]] = {}
    for label in labels:
        spellings.setdefault("".join(label.casefold().split()), set()).add(label)
    alike = [sorted(same) for _, same in sorted(spellings.items()) if len(same) > 1]
    notes = [
        f"The classes {name_some([*map(quote, same)], ' and ')} are kept apart "
        "although their names are nearly the same."
        for same in alike[:_NOTED_ALIKE]
    ]
    if (rest := len(alike) - _NOTED_ALIKE) > 0:
        notes.append(f"{rest:,} more groups of classes have nearly the same names.")
    return notes


def note_lost_classes(labels: Iterable[str], used: Iterable[str]) -> list[str]:
    """Returns a sentence about the classes of which no picture is left, if any.

    Args:
        labels: Of all files.
        used: Of usable pictures.
    """
    lost = [quote(label) for label in sorted(set(labels) - set(used))]
    if not lost:
        return []
    if len(lost) == 1:
        return [f"The class {lost[0]} is gone: none of its files is a usable picture."]
    words = f"The classes {name_some(lost)} are gone"
    return [f"{words}: none of their files is a usable picture."]


def archive_stem(name: str) -> str:
    """Returns a file name without the endings of archives: `cats.tar.gz` -> `cats`."""
    stem = PurePosixPath(name.replace("\\", "/")).name
    while PurePosixPath(stem).suffix.lower() in {
        *{".zip", ".tar", ".gz", ".tgz", ".bz2"},
        *{".xz", ".tbz2", ".txz", ".csv", ".tsv", ".parquet", ".jsonl", ".ndjson"},
    }:
        stem = PurePosixPath(stem).stem
    return stem


def _telling(files: Sequence[FoundFile]) -> list[FoundFile]:
    """The files whose folders tell the layout: pictures by name, else all."""
    return [file for file in files if file.looks_like_picture] or list(files)


def _find_wrapper(files: Sequence[FoundFile]) -> tuple[str, ...]:
    """The outer folders that hold all classes and name none of them."""
    telling = _telling(files)
    wrapper: tuple[str, ...] = ()
    while True:
        below = [b for f in telling if (b := _below(f, wrapper))]
        tops = {folders[0] for folders in below}
        if len(tops) != 1 or tops & set(_split_tops(below)):
            return wrapper
        # `cats/1.jpg` and `cats/more/2.jpg`: a class with a folder in it. A wrapper
        # has its pictures deeper down, apart from strays.
        if not _most_are_deeper(below):
            return wrapper
        wrapper = (*wrapper, *tops)


def _has_split_folders(files: Sequence[FoundFile], wrapper: tuple[str, ...]) -> bool:
    below = [b for f in _telling(files) if (b := _below(f, wrapper))]
    return bool(_split_tops(below))


def _split_tops(below: list[tuple[str, ...]]) -> set[str]:
    """The top folders, when all are called like splits and hold class folders."""
    tops = {folders[0] for folders in below}
    if not all(top.lower() in SPLIT_ALIASES for top in tops):
        return set()
    deeper = Counter(folders[0] for folders in below if len(folders) > 1)
    # `test/` may be flat (pictures without labels) while `train/` has its classes.
    return tops if deeper and _most_are_deeper_somewhere(below, deeper) else set()


def _most_are_deeper(below: list[tuple[str, ...]]) -> bool:
    deeper = sum(len(folders) > 1 for folders in below)
    return deeper * 2 > len(below)


def _most_are_deeper_somewhere(
    below: list[tuple[str, ...]], deeper: Counter[str]
) -> bool:
    counts = Counter(folders[0] for folders in below)
    return any(deeper[top] * 2 > counts[top] for top in counts)


def _below(found: FoundFile, wrapper: tuple[str, ...]) -> tuple[str, ...]:
    """The folders below the wrapper; none for a file outside it."""
    folders = found.folders
    return folders[len(wrapper) :] if folders[: len(wrapper)] == wrapper else ()


def _no_label_reason(found: FoundFile) -> str:
    if not found.looks_like_picture:
        return "It lies in no class folder and is not needed."
    return "It lies in no class folder, so it has no label."
