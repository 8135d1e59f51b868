"""A finding, and the table that a forecast keeps its findings in."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq

from shared.durable_files import write_atomically
from worker.insight.doctor.pictures import Pictures
from worker.insight.doctor.words import Action, Kind

# In the order of the pages.
KINDS: tuple[Kind, ...] = get_args(Kind)
NO_GROUP = -1
# A finding about more pictures names them in parts: what is done about the first ones
# shows the others in the next version.
MOST_PICTURES = 200
# What a user accepts of these is accepted of the labels that pictures have now.
_ABOUT_LABELS = frozenset[Kind]({"suspect_label", "outlier", "label_conflict"})
_KEY_CHARACTERS = 32
_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("kind", pa.string()),
        ("score", pa.float32()),
        ("sentence", pa.string()),
        ("action", pa.string()),
        ("images", pa.list_(pa.string())),
        ("names", pa.list_(pa.string())),
        ("labels", pa.list_(pa.string())),
        ("splits", pa.list_(pa.string())),
        ("suggested_label", pa.string()),
        ("group", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor says of a dataset version.

    Args:
        key: 32 hexadecimal digits, the same in every version that shows it; see
            `make_key`.
        kind: One of `KINDS`.
        score: 0 to 1; the worst of a kind has the highest.
        sentence: Names the file and says why.
        action: What is suggested.
        images: SHA-256 of each picture; empty where files are no pictures of it.
        names: The user's name of each file.
        labels: Class of each picture.
        splits: Split of each picture.
        suggested_label: The class that a picture more likely has.
        group: Number of the cluster of near duplicates, or `NO_GROUP`.
    """

    key: str
    kind: Kind
    score: float
    sentence: str
    action: Action
    images: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    suggested_label: str | None = None
    group: int = NO_GROUP


def build_finding(
    pictures: Pictures,
    kind: Kind,
    rows: Sequence[int],
    *,
    score: float,
    sentence: str,
    action: Action,
    suggested_label: str | None = None,
    group: int = NO_GROUP,
    key: str | None = None,
) -> Finding:
    """Returns a finding about pictures.

    Args:
        pictures: All there are.
        kind: See `Finding`, like all that follow.
        rows: The pictures that it is about; the first `MOST_PICTURES` are listed.
        score: Cut to 0 to 1.
        sentence: What the user reads.
        action: What is suggested.
        suggested_label: For `relabel`.
        group: Cluster of near duplicates.
        key: Defaults to one over the pictures, and their labels where they matter.
    """
    listed = list(rows[:MOST_PICTURES])
    labels = map(pictures.label, rows) if kind in _ABOUT_LABELS else ()
    return Finding(
        key=key or make_key(kind, [pictures.sha256s[row] for row in rows], labels),
        kind=kind,
        score=min(1.0, max(0.0, float(score))),
        sentence=sentence,
        action=action,
        images=tuple(pictures.sha256s[row] for row in listed),
        names=tuple(pictures.names[row] for row in listed),
        labels=tuple(pictures.label(row) for row in listed),
        splits=tuple(str(pictures.split_names[row]) for row in listed),
        suggested_label=suggested_label,
        group=group,
    )


def make_key(kind: Kind, subjects: Iterable[str], claims: Iterable[str] = ()) -> str:
    """Returns the key of a finding: whatever else changes, it stays.

    Args:
        kind: Its kind.
        subjects: SHA-256 of its pictures, in any order; names where it has none.
        claims: What else makes it this finding and no other, in any order: a picture
            that is called something else has another doubtful label.
    """
    text = "\0".join([kind, *sorted(subjects)])
    if said := sorted(set(claims)):
        text += "\0".join(["\0", *said])
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:_KEY_CHARACTERS]


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """Makes a table of findings durable at `path`.

    Raises:
        OSError: The disk is full.
    """
    rows = [asdict(finding) for finding in findings]
    with write_atomically(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), temporary)


def read_findings(path: Path) -> list[Finding]:
    """Returns the findings of a table, in its order.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such table.
    """
    lists = ("images", "names", "labels", "splits")
    return [
        Finding(**(row | {name: tuple(row[name]) for name in lists}))
        for row in pq.read_table(path, schema=_SCHEMA).to_pylist()
    ]
