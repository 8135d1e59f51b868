"""What pages show of findings: cards with pictures, tabs with counts, the panel."""

from dataclasses import dataclass, replace
from typing import Any

from flask import url_for

from shared import finding_decision_store
from shared.artifacts import Storage
from shared.edit_actions import RELABEL
from shared.errors import NotFoundError
from shared.forecast_tables import Forecast
from shared.tables import Dataset, DatasetVersion
from web.datasets import findings
from web.datasets.decisions import find_making
from web.datasets.finding_form import BY_COLUMN, BY_FOLDER, DEALS, KEEPS
from web.datasets.finding_plan import COPIES, DEALT, WORDS, list_actions
from web.datasets.findings import (
    MOST_KEYS,
    Finding,
    FindingKind,
    FindingPage,
    Picture,
    Wanted,
)
from web.datasets.forecast_view import ForecastState
from web.datasets.report import list_thumbnails
from web.datasets.version_pictures import has_folder_groups
from web.datasets.view import count_classes
from web.installation import Installation
from web.jobs.view import make_row
from web.paging import Pager
from web.ranges import dig

PAGE_SIZE = 24
SHOWN_AT_ONCE = 4  # pictures of one card; the others unfold
WORST = 3  # pictures of the panel
_LOOKED_AT = 24  # findings among which the panel's pictures are
MOST_OPTIONS = 60  # of one list; more classes are typed
# As the doctor has it (`worker/insight/doctor/label_errors.py`): what is usual in a
# smaller class nobody knows.
FEWEST_JUDGED = 5
MOST_NAMED = 5  # classes in one sentence
_SAME_FOR_ALL: dict[str, Any] = {
    "words": WORDS,
    "keeps": KEEPS,
    "deals": DEALS,
    "dealt": DEALT,
    "most_keys": MOST_KEYS,
    "most_options": MOST_OPTIONS,
    "shown_at_once": SHOWN_AT_ONCE,
}


@dataclass(frozen=True)
class Filter:
    """Which findings a page shows.

    Args:
        kind: Only of this kind; None for all.
        accepted: The accepted ones instead of the others.
        page: From 1.
    """

    kind: FindingKind | None = None
    accepted: bool = False
    page: int = 1


@dataclass(frozen=True)
class Thumbnail:
    """One picture on a card; `address` is None where no small copy was made."""

    picture: Picture
    address: str | None


@dataclass(frozen=True)
class Card:
    """One finding as the page shows it.

    Args:
        finding: As it was read.
        heading: The kind in words.
        thumbnails: Its pictures.
        actions: What can be done beside accepting it.
        labels: Labels one of which is right, where the question is which.
        is_copies: Whether one of its pictures may stay.
        is_dealt: Whether dealing the splits anew may mend it.
    """

    finding: Finding
    heading: str
    thumbnails: list[Thumbnail]
    actions: tuple[str, ...]
    labels: list[str]
    is_copies: bool
    is_dealt: bool


def make_page(
    here: Installation,
    dataset: Dataset,
    state: ForecastState,
    wanted: Filter,
) -> dict[str, Any]:
    """Returns the values of the page of findings.

    Args:
        here: The installation.
        dataset: Whose findings.
        state: Of the version that is shown.
        wanted: Which of them.
    """
    with here.database.reading() as session:
        making = find_making(session, dataset.id)
    values: dict[str, Any] = _SAME_FOR_ALL | {
        "version": state.version,
        "wanted": wanted,
        "doctor": _describe(state),
        "making": making,
        "is_newest": state.version is not None
        and state.version.version == dataset.last_version,
        "column": _find_column(state),
    }
    if state.forecast is None or state.version is None:
        return values
    asked = Wanted(wanted.kind, wanted.accepted, wanted.page, PAGE_SIZE)
    try:
        found = _read(here, state.version, state.forecast, asked)
    except NotFoundError as error:
        values["doctor"]["gone"] = str(error)
        return values
    page = found.page
    return values | {
        "cards": _make_cards(here.storage, state.version, state.forecast, page.items),
        "counts": found.open_counts,
        "unlisted": _count_unlisted(state.forecast.summary, wanted),
        "accepted_total": found.accepted_total,
        "classes": state.version.report.get("classes") or [],
        "unjudged": _tell_unjudged(state.version.report),
        "offered": _list_offered(here.storage, state),
        "tabs": _list_tabs(state.version, found.open_counts, wanted),
        "pager": Pager(page.page, PAGE_SIZE, page.total, "findings.index"),
    }


def _list_offered(storage: Storage, state: ForecastState) -> set[str]:
    """Returns the ways to deal the splits anew for which the version has groups."""
    offered = set(DEALS)
    if _find_column(state) is None:
        offered.discard(BY_COLUMN)
    if state.version and has_folder_groups(storage, state.version) is False:
        offered.discard(BY_FOLDER)
    return offered


def _tell_unjudged(report: dict[str, Any]) -> str | None:
    """Says which classes are too small for their labels to be judged; None for none."""
    sizes = {row["label"]: row["total"] for row in count_classes(report)}
    small = [label for label, total in sizes.items() if total < FEWEST_JUDGED]
    if not small or not report.get("counts"):
        return None
    if len(sizes) - len(small) < 2:  # noqa: PLR2004 - nothing to mix a class up with
        return (
            f"No label was judged: that takes two classes of {FEWEST_JUDGED} pictures "
            "or more."
        )
    named = ", ".join(f"“{label}”" for label in small[:MOST_NAMED])
    rest = len(small) - MOST_NAMED
    more = f" and {rest} more" if rest > 0 else ""
    return (
        f"Labels of classes with fewer than {FEWEST_JUDGED} pictures were not judged: "
        f"{named}{more}."
    )


def _find_column(state: ForecastState) -> str | None:
    """Returns the column of a table whose values the version keeps."""
    column = dig(state.version.report if state.version else {}, "split", "column")
    return column if isinstance(column, str) else None


def _count_unlisted(summary: dict[str, Any], wanted: Filter) -> int:
    """Returns how many of what is shown were found and are too many to be listed."""
    if wanted.accepted:
        return 0
    kinds = [wanted.kind] if wanted.kind else list(FindingKind)
    return sum(findings.count_unlisted(summary, kind) for kind in kinds)


def make_panel(here: Installation, state: ForecastState) -> dict[str, Any]:
    """Returns the values of the panel on a dataset's page, with the worst pictures."""
    panel = _describe(state)
    if state.forecast is None or state.version is None:
        return panel
    asked = Wanted(None, False, 1, _LOOKED_AT)
    try:
        found = _read(here, state.version, state.forecast, asked)
    except NotFoundError as error:
        return panel | {"gone": str(error)}
    cards = _make_cards(here.storage, state.version, state.forecast, found.page.items)
    return panel | {
        "counts": found.open_counts,
        "accepted_total": found.accepted_total,
        "worst": _list_worst(cards),
    }


def _describe(state: ForecastState) -> dict[str, Any]:
    """How it stands with the examination of a version."""
    return {
        "exists": state.forecast is not None,
        "live": state.live,
        "job": make_row(state.job) if state.job else None,
        "gone": None,  # or a sentence: its file is not there any more
        "counts": {},
        "accepted_total": 0,
        "words": WORDS,
        "worst": [],
    }


def _read(
    here: Installation, version: DatasetVersion, forecast: Forecast, wanted: Wanted
) -> FindingPage:
    with here.database.reading() as session:
        accepted = finding_decision_store.list_accepted(session, version.dataset_id)
    return findings.read_page(here.storage, forecast, accepted, wanted)


def _list_tabs(
    version: DatasetVersion, counts: dict[str, int], wanted: Filter
) -> list[dict[str, Any]]:
    """Returns the links that choose a kind, each with its count."""

    def tab(words: str, kind: str | None, tally: int) -> dict[str, Any]:
        return {
            "words": words,
            "tally": tally,
            "kind": kind,
            "current": not wanted.accepted and wanted.kind == kind,
            "address": url_for(
                "findings.index",
                dataset_id=version.dataset_id,
                version=version.version,
                kind=kind,
            ),
        }

    shown = {kind.value: counts.get(kind, 0) for kind in FindingKind}
    kinds = [
        tab(WORDS[FindingKind(kind)], kind, tally)
        for kind, tally in shown.items()
        if tally or kind == wanted.kind
    ]
    return [tab("All", None, sum(counts.values())), *kinds]


def _make_cards(
    storage: Storage, version: DatasetVersion, forecast: Forecast, items: list[Finding]
) -> list[Card]:
    return [_make_card(storage, version, forecast, finding) for finding in items]


def _make_card(
    storage: Storage, version: DatasetVersion, forecast: Forecast, finding: Finding
) -> Card:
    pictures = sum(picture.sha256 is not None for picture in finding.pictures)
    actions = list_actions(finding.kind, pictures)
    is_question = finding.kind == FindingKind.LABEL_CONFLICT and RELABEL in actions
    if is_question and pictures == 1:
        finding = _mark_as_aside(finding)
    return Card(
        finding=finding,
        heading=WORDS[FindingKind(finding.kind)],
        thumbnails=[
            Thumbnail(picture, _find_address(storage, version, forecast, picture))
            for picture in finding.pictures
        ],
        actions=actions,
        labels=finding.labels if is_question else [],
        is_copies=finding.kind in COPIES,
        is_dealt=finding.kind in DEALT,
    )


def _mark_as_aside(finding: Finding) -> Finding:
    """Says of a picture in quarantine that it has several labels, and no split."""
    label = " or ".join(finding.labels)
    shown = [
        replace(picture, label=label, split="quarantine")
        for picture in finding.pictures
    ]
    return replace(finding, pictures=shown)


def _find_address(
    storage: Storage, version: DatasetVersion, forecast: Forecast, picture: Picture
) -> str | None:
    """Where the small copy is: with the forecast, or with the version's own.

    The forecast has none of pictures in quarantine: training sees none of them.
    """
    if picture.thumbnail:
        return url_for(
            "datasets.forecast_thumbnail",
            dataset_id=version.dataset_id,
            job_id=forecast.job_id,
            name=picture.thumbnail,
        )
    if picture.sha256 is None:
        return None
    name = f"{picture.sha256}.jpg"
    if not list_thumbnails(storage, version, [name]):
        return None
    return url_for(
        "datasets.thumbnail",
        dataset_id=version.dataset_id,
        version=version.version,
        name=name,
    )


def _list_worst(cards: list[Card]) -> list[Card]:
    """Returns the first cards with a picture to show, no two with the same."""
    worst: dict[str, Card] = {}
    for card in cards:
        address = next((t.address for t in card.thumbnails if t.address), None)
        if address is not None and len(worst) < WORST:
            worst.setdefault(address, card)
    return list(worst.values())
