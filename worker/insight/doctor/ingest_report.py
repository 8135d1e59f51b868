"""Findings that ingest has made already: unreadable files, copies, conflicts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from worker.ingest.found import COPY, PICTURE_SUFFIXES
from worker.insight.doctor.finding import Finding, make_key
from worker.insight.doctor.pictures import Pictures
from worker.insight.doctor.words import Kind, join_words

# What a decoder said, so that it was a picture whatever it is called; and what was lost
# before anybody could see what it is.
_LOST = frozenset(
    {"damaged", "too_many_pixels", "unsupported_mode", "timeout", "out_of_memory"}
    | {"decoder_crashed", "not_decodable", "unreadable", "not_fetched", "cut_off"}
    | {"bomb", "not_an_archive"}
)
# What is said of other files, too: told where the name says that a picture was meant.
_LOST_IF_PICTURE = frozenset(
    {"empty_file", "not_an_image", "encrypted", "too_large", "unsupported_compression"}
)


def tell_report(
    report: Mapping[str, Any],
    pictures: Pictures,
    quarantine: Sequence[Mapping[str, Any]] = (),
) -> list[Finding]:
    """Returns findings about files that are no pictures of the version.

    A copy is shown by the picture that is kept in its place. That pictures came to an
    earlier version once more is no fault, and no finding.

    Args:
        report: `report.json` of the version, or an empty one.
        pictures: Those of the version.
        quarantine: Rows of `quarantine.parquet`.
    """
    skipped = report.get("skipped") or []
    twins = _Twins(pictures, quarantine, {skip.get("same_as") for skip in skipped})
    findings = []
    for skip in skipped:
        name, code, reason = skip["file"], skip["code"], skip["reason"]
        if code == COPY:
            sentence = f"{name} is a copy and was left out. {reason}"
            finding = _tell_file("exact_duplicate", name, sentence)
            findings.append(twins.show(finding, skip.get("same_as")))
        elif code in _LOST or (code in _LOST_IF_PICTURE and _is_meant_as_picture(name)):
            sentence = f"{name} could not be used. {reason}"
            findings.append(_tell_file("unreadable", name, sentence))
    return findings


def count_unlisted(report: Mapping[str, Any]) -> Counter[Kind]:
    """Returns how many findings of a kind there are beside those of `tell_report`.

    A report names 10,000 files at most and counts all. Whether a file without a name
    was meant as a picture nobody can say: only those are counted that were.

    Args:
        report: As for `tell_report`.
    """
    listed = Counter(skip["code"] for skip in report.get("skipped") or [])
    more: Counter[Kind] = Counter()
    for code, count in (report.get("skipped_by_code") or {}).items():
        unlisted = max(0, count - listed[code])
        if code == COPY:
            more["exact_duplicate"] += unlisted
        elif code in _LOST:
            more["unreadable"] += unlisted
    return more


def tell_conflicts(quarantine: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Returns a finding for each picture that came under several labels.

    Args:
        quarantine: Rows of `quarantine.parquet`, where all such pictures lie; those of
            one label are the user's own.
    """
    return [
        _tell_kept(row) for row in quarantine if len(set(row.get("labels") or ())) > 1
    ]


def _is_meant_as_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


class _Twins:
    """The pictures that show the same as files which were left out, by their hashes."""

    def __init__(
        self,
        pictures: Pictures,
        quarantine: Sequence[Mapping[str, Any]],
        wanted: set[str | None],
    ) -> None:
        self._pictures = pictures
        self._rows = {
            sha: at for at, sha in enumerate(pictures.sha256s) if sha in wanted
        }
        self._aside = {
            one["sha256"]: one for one in quarantine if one["sha256"] in wanted
        }

    def show(self, finding: Finding, sha256: str | None) -> Finding:
        """Returns the finding with the picture; as it is where that is not known."""
        if sha256 in self._rows:
            row = self._rows[sha256]
            name, label = self._pictures.names[row], self._pictures.label(row)
            split = str(self._pictures.split_names[row])
        elif sha256 in self._aside:
            name, label, split = self._aside[sha256]["source_name"], "", ""
        else:
            return finding
        return replace(
            finding,
            images=(sha256,),
            names=(name,),
            labels=(label,),
            splits=(split,),
        )


def _tell_file(kind: Kind, name: str, sentence: str) -> Finding:
    return Finding(
        key=make_key(kind, [name]),
        kind=kind,
        score=1.0,
        sentence=sentence,
        action="none",
        names=(name,),
    )


def _tell_kept(row: Mapping[str, Any]) -> Finding:
    labels = sorted(set(row["labels"]))
    return Finding(
        key=make_key("label_conflict", [row["sha256"]], labels),
        kind="label_conflict",
        score=1.0,
        sentence=f"{row['source_name']} came as {_quote(labels)}: it is in quarantine "
        "until you say which is right.",
        action="relabel",
        images=(row["sha256"],),
        names=(row["source_name"],),
        labels=tuple(labels),
        splits=("",),  # it was in one, and is in none now
    )


def _quote(labels: Sequence[str]) -> str:
    return join_words([f"“{label}”" for label in labels])
