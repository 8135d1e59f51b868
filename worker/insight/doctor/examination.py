"""The examination of one dataset version: everything that the doctor says of it.

1. Each picture is looked at once: its hash, its light, how sharp it is.
2. Near duplicates are found, so that no picture is judged by its own copy.
3. Labels are judged by the others' features: what is unlikely is suspected.
4. Whatever resembles nothing, or cannot be seen well, is told.
5. What ingest has found, and what is wrong with classes and splits, joins it.

It reads arrays and writes nothing; whoever is stopped starts it again.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from worker.ingest.dealing import BY_FOLDER
from worker.insight.cross_validation import cross_validate
from worker.insight.doctor.appearance import Appearance, measure_appearance
from worker.insight.doctor.copies import tell_copies
from worker.insight.doctor.dealing import find_imbalance, find_shared_groups
from worker.insight.doctor.duplicates import Duplicates, find_duplicates
from worker.insight.doctor.finding import KINDS, Finding, build_finding
from worker.insight.doctor.ingest_report import tell_conflicts, tell_report
from worker.insight.doctor.label_errors import Suspects, find_suspects, mix_opinions
from worker.insight.doctor.neighbours import (
    Neighbours,
    find_neighbours,
    reduce_features,
)
from worker.insight.doctor.oddities import (
    find_badly_lit,
    find_blurred,
    find_outliers,
    find_small,
)
from worker.insight.doctor.pictures import Pictures
from worker.insight.doctor.words import as_percent
from worker.insight.probe import MOST_FITTED, Recipe

MOST_FINDINGS = 2_000  # of each kind, accepted ones not counted
_NEIGHBOURS = 20
# Pictures times directions times classes of one fit of the probe: some seconds of a
# core. Beyond that a discriminant analysis takes its place, as in `probe`.
_MOST_PRODUCTS = 60_000_000
# Of the probe's penalty. With 5 % of labels flipped, a tenth of it found 7 points fewer
# of TrashNet's, and ten times as much 3 fewer of elpv's.
_STRENGTH = 0.01


def _tell_nobody(unit: str, done: int, total: int) -> None:
    """Stands where nobody waits for news."""


@dataclass(frozen=True)
class Likeness:
    """Who resembles whom: what judging labels needs beside the pictures.

    Args:
        directions: Features in few directions; see `reduce_features`.
        neighbours: The nearest of each picture.
        seen: What each picture looks like.
        duplicates: Which show the same; `duplicates.groups` are for folds.
    """

    directions: np.ndarray
    neighbours: Neighbours
    seen: Appearance
    duplicates: Duplicates


def find_likeness(
    pictures: Pictures,
    *,
    threads: int | None = None,
    tell: Callable[[str, int, int], None] = _tell_nobody,
) -> Likeness:
    """Returns who resembles whom: the first two steps, the longest ones.

    Args:
        pictures: At least one.
        threads: Defaults to the number of cores that this process may use.
        tell: Called with a unit in words, and how many of all are done.
    """
    threads = threads or len(os.sched_getaffinity(0))
    tell("pictures compared", 0, len(pictures))
    directions = reduce_features(pictures.features)
    neighbours = find_neighbours(
        directions, _NEIGHBOURS, report=partial(tell, "pictures compared")
    )
    seen = measure_appearance(
        pictures.pixels, report=partial(tell, "pictures looked at")
    )
    duplicates = find_duplicates(
        pictures.pixels,
        seen.hashes,
        neighbours,
        threads=threads,
        report=partial(tell, "pairs compared"),
    )
    return Likeness(directions, neighbours, seen, duplicates)


def examine(
    pictures: Pictures,
    *,
    probabilities: np.ndarray | None = None,
    report: Mapping[str, Any] | None = None,
    quarantine: Sequence[Mapping[str, Any]] = (),
    accepted: Collection[str] = (),
    likeness: Likeness | None = None,
    seed: int = 0,
    threads: int | None = None,
    tell: Callable[[str, int, int], None] = _tell_nobody,
) -> list[Finding]:
    """Returns all findings, in the order of the pages and the worst of a kind first.

    They may be more than anybody reads: see `list_readable`.

    Args:
        pictures: The pictures of the version.
        probabilities: Of each class for each picture, from a probe that has seen
            neither it nor its copies. Defaults to asking one now.
        report: The version's `report.json`.
        quarantine: Rows of the version's `quarantine.parquet`.
        accepted: Keys of findings that the user has accepted: they stay in the list,
            behind all others of their kind.
        likeness: From `find_likeness`, where it is known already.
        seed: Deals the folds, where a probe is asked now.
        threads: As for `find_likeness`, and so is what follows.
        tell: Called with a unit in words, and how many of all are done.

    Shapes:
        probabilities: (n, classes) float32.
    """
    report = report or {}
    found = [
        *tell_report(report, pictures, quarantine),
        *tell_conflicts(quarantine),
    ]
    if len(pictures):
        likeness = likeness or find_likeness(pictures, threads=threads, tell=tell)
        likely = judge_labels(
            pictures,
            likeness,
            probabilities=probabilities,
            seed=seed,
            threads=threads,
            tell=tell,
        )
        found += _look(pictures, likeness, likely)
        dealt = report.get("split") or {}
        found += find_shared_groups(
            pictures,
            is_by_folder=dealt.get("by") == BY_FOLDER,
            class_folders=dealt.get("class_folders") or (),
        )
    return _arrange(found, set(accepted))


def list_readable(
    findings: Sequence[Finding], accepted: Collection[str] = ()
) -> list[Finding]:
    """Returns the first `MOST_FINDINGS` of each kind; accepted ones take no place.

    Args:
        findings: As `examine` returns them.
        accepted: As for `examine`.
    """
    seen: Counter[tuple[str, bool]] = Counter()
    listed = []
    for finding in findings:
        key = finding.kind, finding.key in accepted
        seen[key] += 1
        if seen[key] <= MOST_FINDINGS:
            listed.append(finding)
    return listed


def judge_labels(
    pictures: Pictures,
    likeness: Likeness,
    *,
    probabilities: np.ndarray | None = None,
    seed: int = 0,
    threads: int | None = None,
    tell: Callable[[str, int, int], None] = _tell_nobody,
) -> np.ndarray:
    """Returns how likely each class is for each picture, asked of all but its copies.

    Args:
        pictures: As for `examine`, like all that follow.
        likeness: From `find_likeness`.
        probabilities: Of each class for each picture.
        seed: Deals the folds.
        threads: See `examine`.
        tell: See `examine`.

    Shapes:
        returns: (n, classes) float32.
    """
    groups, labels = likeness.duplicates.groups, np.asarray(pictures.labels)
    if probabilities is None:
        probabilities = _ask_probe(pictures, likeness, seed, threads, tell)
    return mix_opinions(probabilities, likeness.neighbours, labels, groups)


def _ask_probe(
    pictures: Pictures,
    likeness: Likeness,
    seed: int,
    threads: int | None,
    tell: Callable[[str, int, int], None],
) -> np.ndarray:
    """Returns out-of-fold probabilities; all as likely where no fold can be made."""
    groups, labels = likeness.duplicates.groups, np.asarray(pictures.labels)
    directions, classes = likeness.directions, len(pictures.classes)
    if len(np.unique(groups)) < 2:  # noqa: PLR2004 - nobody to learn from
        return np.full((len(labels), classes), 1 / max(1, classes), np.float32)
    return cross_validate(
        # Of length one until here: what the penalty was chosen for has a mean square
        # of one.
        directions * np.float32(np.sqrt(directions.shape[1])),
        labels,
        np.arange(len(labels)),
        classes=classes,
        groups=groups,
        recipe=_choose_recipe(len(labels), directions.shape[1], classes),
        seed=seed,
        threads=threads,
        report=partial(tell, "folds judged"),
    ).probabilities


def _choose_recipe(pictures: int, directions: int, classes: int) -> Recipe:
    """Returns how the probe is fitted so that no fit takes more than some seconds."""
    fitted = min(pictures, MOST_FITTED)
    is_too_much = fitted * directions * classes > _MOST_PRODUCTS
    return Recipe(None if is_too_much else _STRENGTH)


def _look(pictures: Pictures, likeness: Likeness, likely: np.ndarray) -> list[Finding]:
    labels = np.asarray(pictures.labels)
    suspects = find_suspects(likely, labels)
    copied = np.flatnonzero(likeness.duplicates.clusters >= 0)
    told = np.union1d(suspects.rows, copied)
    return [
        *tell_copies(pictures, likeness.duplicates, likely),
        *_tell_suspects(pictures, suspects),
        *find_outliers(pictures, likeness.neighbours, told),
        *find_small(pictures),
        *find_badly_lit(pictures, likeness.seen),
        *find_blurred(pictures, likeness.seen),
        *find_imbalance(pictures),
    ]


def _tell_suspects(pictures: Pictures, suspects: Suspects) -> list[Finding]:
    return [
        build_finding(
            pictures,
            "suspect_label",
            [row],
            score=score,
            sentence=f"{pictures.names[row]} is labelled {pictures.label(row)}, but "
            f"looks like {pictures.classes[suggested]} ({as_percent(likelihood)}).",
            action="relabel",
            suggested_label=pictures.classes[suggested],
        )
        for row, score, suggested, likelihood in zip(
            suspects.rows.tolist(),
            suspects.scores.tolist(),
            suspects.suggested.tolist(),
            suspects.likelihood.tolist(),
            strict=True,
        )
    ]


def _arrange(findings: list[Finding], accepted: set[str]) -> list[Finding]:
    place = {kind: number for number, kind in enumerate(KINDS)}
    return sorted(
        {finding.key: finding for finding in findings}.values(),
        key=lambda f: (place[f.kind], f.key in accepted, -f.score, f.key),
    )
