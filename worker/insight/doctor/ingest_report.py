"""Findings that ingest has made already: unreadable files, copies, conflicts."""

from collections.abc import Mapping, Sequence
from typing import Any

from worker.ingest.found import PICTURE_SUFFIXES
from worker.insight.doctor.finding import Finding, make_key
from worker.insight.doctor.words import join_words, name_some

# What was said of pictures that cannot be used; other files are none.
_UNREADABLE = frozenset(
    {"unreadable", "empty_file", "damaged", "too_many_pixels", "unsupported_mode"}
    | {"timeout", "out_of_memory", "decoder_crashed", "not_decodable", "cut_off"}
    | {"encrypted", "not_an_image"}
)
_COPY = "copy"


def tell_report(report: Mapping[str, Any]) -> list[Finding]:
    """Returns findings about files that are no pictures of the version.

    Args:
        report: `report.json` of the version, or an empty one.
    """
    findings = []
    for skip in report.get("skipped") or []:
        name, code, reason = skip["file"], skip["code"], skip["reason"]
        if code == _COPY:
            sentence = f"{name} is a copy and was left out. {reason}"
            findings.append(_tell_file("exact_duplicate", name, sentence, 1.0))
        elif code in _UNREADABLE and _is_meant_as_picture(name):
            sentence = f"{name} could not be used. {reason}"
            findings.append(_tell_file("unreadable", name, sentence, 1.0))
    return findings


def tell_conflicts(
    report: Mapping[str, Any], quarantine: Sequence[Mapping[str, Any]]
) -> list[Finding]:
    """Returns a finding for each picture that came under several labels.

    Args:
        report: As for `tell_report`; asked where the version keeps no such pictures.
        quarantine: Rows of `quarantine.parquet`; those of one label are the user's own.
    """
    kept = [row for row in quarantine if len(set(row.get("labels") or ())) > 1]
    if kept:
        return [_tell_kept(row) for row in kept]
    return [_tell_lost(conflict) for conflict in report.get("conflicts") or []]


def _is_meant_as_picture(name: str) -> bool:
    return any(name.lower().endswith(suffix) for suffix in PICTURE_SUFFIXES)


def _tell_file(kind: Any, name: str, sentence: str, score: float) -> Finding:
    return Finding(
        key=make_key(kind, [name]),
        kind=kind,
        score=score,
        sentence=sentence,
        action="none",
        names=(name,),
    )


def _tell_kept(row: Mapping[str, Any]) -> Finding:
    labels = sorted(set(row["labels"]))
    return Finding(
        key=make_key("label_conflict", [row["sha256"]]),
        kind="label_conflict",
        score=1.0,
        sentence=f"{row['source_name']} came as {_quote(labels)}: it is in quarantine "
        "until you say which is right.",
        action="relabel",
        images=(row["sha256"],),
        names=(row["source_name"],),
        labels=tuple(labels),
        splits=(row.get("split") or "",),
    )


def _tell_lost(conflict: Mapping[str, Any]) -> Finding:
    files, labels = list(conflict["files"]), sorted(conflict["labels"])
    return Finding(
        key=make_key("label_conflict", files),
        kind="label_conflict",
        score=1.0,
        sentence=f"{name_some(files)} came as {_quote(labels)}, and was left out: only "
        "you can say which is right.",
        action="none",
        names=tuple(files),
        labels=tuple(labels),
    )


def _quote(labels: Sequence[str]) -> str:
    return join_words([f"“{label}”" for label in labels])
