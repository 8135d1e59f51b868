"""Findings of a forecast, read from shared storage a page at a time."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from shared.artifacts import Storage
from shared.errors import ConflictError, NotFoundError, UserError
from shared.forecast_tables import Forecast
from shared.pages import Page, cut_page
from web.ranges import dig, read_figure

FILE = "findings.parquet"
MOST_PICTURES = 24  # of one finding that a page shows
MOST_KEYS = 10_000  # of one decision
BATCH_ROWS = 4096


class FindingKind(StrEnum):
    """What a finding is about, in the order of pages: what spoils most goes first."""

    LABEL_CONFLICT = "label_conflict"
    SPLIT_LEAK = "split_leak"
    NEAR_DUPLICATE = "near_duplicate"
    EXACT_DUPLICATE = "exact_duplicate"
    SUSPECT_LABEL = "suspect_label"
    OUTLIER = "outlier"
    TOO_SMALL = "too_small"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    BLURRED = "blurred"
    IMBALANCE = "imbalance"
    GROUP_LEAK = "group_leak"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Picture:
    """One picture, or one file, that a finding is about.

    Args:
        sha256: Its digest; None for a file that became no picture.
        name: As the user gave it.
        label: Its class; empty without one.
        split: Where it is; empty without one.
        thumbnail: File name of its small copy; None where none was made.
    """

    sha256: str | None
    name: str
    label: str
    split: str
    thumbnail: str | None


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor says of a dataset version.

    Args:
        key: Names it, in all versions of its dataset.
        kind: A value of `FindingKind`.
        score: How bad it is among its kind, 0 to 1.
        sentence: For people.
        action: What is suggested: relabel, exclude, quarantine, split or none.
        pictures: The first `MOST_PICTURES` of those that it is about.
        pictures_total: How many there are.
        labels: All labels that its pictures have, each once.
        suggested_label: The label that the doctor would give.
        group: Pictures of one number belong together.
        accepted: Whether a user has said that it is fine.
    """

    key: str
    kind: str
    score: float
    sentence: str
    action: str
    pictures: list[Picture]
    pictures_total: int
    labels: list[str]
    suggested_label: str | None
    group: int | None
    accepted: bool


@dataclass(frozen=True)
class FindingPage:
    """One page of findings, and how many there are in all.

    Args:
        page: Of those that were wanted.
        open_counts: How many of each kind are not accepted.
        accepted_total: How many are.
    """

    page: Page[Finding]
    open_counts: dict[str, int]
    accepted_total: int


@dataclass(frozen=True)
class Resolved:
    """A finding that a decision names: its kind, and all pictures it is about.

    Args:
        key: Names it.
        kind: A value of `FindingKind`.
        images: SHA-256 of each picture; empty where it is about files or classes.
        names: As the user gave them.
        splits: Where each picture is.
        labels: All labels that its pictures have, each once.
        suggested_label: The label that the doctor would give.
    """

    key: str
    kind: str
    images: list[str]
    names: list[str]
    splits: list[str]
    labels: list[str]
    suggested_label: str | None


@dataclass(frozen=True)
class Wanted:
    """Which findings to list.

    Args:
        kind: Only of this kind.
        accepted: Only those that are accepted, or are not.
        page: From 1.
        page_size: 1 to 500.
    """

    kind: str | None = None
    accepted: bool | None = None
    page: int = 1
    page_size: int = 50


def read_page(
    storage: Storage, forecast: Forecast, accepted: set[str], wanted: Wanted
) -> FindingPage:
    """Returns one page of the findings of a forecast, in the order of its file.

    Args:
        storage: Shared storage.
        forecast: Whose findings.
        accepted: Keys of findings that users have accepted.
        wanted: Which of them.

    Raises:
        NotFoundError: When its file is gone.
    """
    folder = storage.resolve(forecast.rel_path)
    index = list(_read_index(folder))
    chosen = [
        number
        for number, (key, kind) in enumerate(index)
        if wanted.kind in {None, kind} and wanted.accepted in {None, key in accepted}
    ]
    page = cut_page(chosen, wanted.page, wanted.page_size)
    shown = _list_thumbnails(folder)
    items = [
        _make_finding(row, accepted, shown) for row in _read_rows(folder, page.items)
    ]
    counts = Counter(kind for key, kind in index if key not in accepted)
    return FindingPage(
        Page(items, page.total, page.page, page.page_size),
        {kind.value: counts[kind] for kind in FindingKind if counts[kind]},
        len(index) - counts.total(),
    )


def resolve(
    storage: Storage, forecast: Forecast, keys: Iterable[str]
) -> list[Resolved]:
    """Returns the findings that these keys name, in the order of their file.

    Raises:
        ConflictError: Naming a key that is no finding of this forecast.
        UserError: When there are too many.
    """
    wanted = set(keys)
    if len(wanted) > MOST_KEYS:
        raise UserError(
            f"One decision names at most {MOST_KEYS} findings. "
            f"Received: {len(wanted)}.",
            field="findings",
        )
    folder = storage.resolve(forecast.rel_path)
    index = list(_read_index(folder))
    unknown = wanted - {key for key, _ in index}
    if unknown:
        raise ConflictError(
            f"{len(unknown):,} of the findings that you chose are not among the newest "
            f"ones of this version, which somebody may just have asked for: "
            f"{min(unknown)!r}. Nothing was decided: look at the newest ones.",
            field="findings",
        )
    numbers = [number for number, (key, _) in enumerate(index) if key in wanted]
    return [_make_resolved(row) for row in _read_rows(folder, numbers)]


def list_keys(
    storage: Storage, forecast: Forecast, accepted: set[str], kind: str
) -> list[str]:
    """Returns the keys of the findings of one kind that are not accepted, worst first.

    At most `MOST_KEYS`: as many as one decision names.

    Raises:
        NotFoundError: When the file of the findings is gone.
    """
    index = _read_index(storage.resolve(forecast.rel_path))
    found = (key for key, its in index if its == kind and key not in accepted)
    return list(islice(found, MOST_KEYS))


def list_open(
    storage: Storage, forecast: Forecast, accepted: set[str], kinds: Collection[str]
) -> list[Resolved]:
    """Returns the findings of these kinds that are not accepted, in their file's order.

    Raises:
        NotFoundError: When the file of the findings is gone.
    """
    folder = storage.resolve(forecast.rel_path)
    numbers = [
        number
        for number, (key, kind) in enumerate(_read_index(folder))
        if kind in kinds and key not in accepted
    ]
    return [_make_resolved(row) for row in _read_rows(folder, numbers)]


def count_unlisted(summary: dict[str, Any], kind: FindingKind) -> int:
    """Returns how many of a kind a forecast has found beyond those that it lists."""
    most = read_figure(dig(summary, "findings", "most_listed"))
    found = read_figure(dig(summary, "findings", "counts", kind.value))
    return 0 if most is None or found is None else max(0, round(found - most))


def _read_index(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields (key, kind) of every finding: two short columns of a long table."""
    for batch in _read_batches(folder, ["key", "kind"]):
        yield from zip(batch["key"].to_pylist(), batch["kind"].to_pylist(), strict=True)


def _read_rows(folder: Path, numbers: list[int]) -> list[dict[str, Any]]:
    """Returns the rows with these rising numbers, decoding no more than it must."""
    rows: list[dict[str, Any]] = []
    at = 0
    for batch in _read_batches(folder) if numbers else ():
        inside = [n - at for n in numbers if at <= n < at + batch.num_rows]
        rows += batch.take(inside).to_pylist() if inside else []
        at += batch.num_rows
        if at > numbers[-1]:
            break
    return rows


def _read_batches(folder: Path, columns: list[str] | None = None) -> Iterator[Any]:
    # Imported when it is needed: most web processes are never asked for findings.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(folder / FILE) as file:
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=columns)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise NotFoundError(
            "The findings of this forecast are not on shared storage any more. "
            "Forecast it again."
        ) from error


def _list_thumbnails(folder: Path) -> set[str]:
    try:
        return {path.name for path in (folder / "thumbnails").iterdir()}
    except FileNotFoundError:
        return set()


def _make_resolved(row: dict[str, Any]) -> Resolved:
    return Resolved(
        key=row["key"],
        kind=row["kind"],
        images=list(row["images"] or []),
        names=list(row["names"] or []),
        splits=list(row["splits"] or []),
        labels=_list_labels(row),
        suggested_label=row["suggested_label"],
    )


def _make_finding(row: dict[str, Any], accepted: set[str], shown: set[str]) -> Finding:
    images, names = row["images"] or [], row["names"] or []
    total = max(len(images), len(names))
    return Finding(
        key=row["key"],
        kind=row["kind"],
        score=row["score"],
        sentence=row["sentence"],
        action=row["action"],
        pictures=[
            _make_picture(row, number, shown)
            for number in range(min(total, MOST_PICTURES))
        ],
        pictures_total=total,
        labels=_list_labels(row),
        suggested_label=row["suggested_label"],
        group=row["group"],
        accepted=row["key"] in accepted,
    )


def _make_picture(row: dict[str, Any], number: int, shown: set[str]) -> Picture:
    sha256 = _at(row["images"], number)
    thumbnail = f"{sha256}.jpg"
    return Picture(
        sha256=sha256,
        name=_at(row["names"], number) or "",
        label=_at(row["labels"], number) or "",
        split=_at(row["splits"], number) or "",
        thumbnail=thumbnail if thumbnail in shown else None,
    )


def _list_labels(row: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(label for label in row["labels"] or [] if label))


def _at(values: list[str] | None, number: int) -> str | None:
    return values[number] if values and number < len(values) else None
