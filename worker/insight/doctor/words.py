"""The kinds of findings, what each suggests, and how a sentence counts and names."""

from collections.abc import Sequence
from typing import Literal

Kind = Literal[
    "label_conflict",
    "split_leak",
    "near_duplicate",
    "exact_duplicate",
    "suspect_label",
    "outlier",
    "too_small",
    "too_dark",
    "too_bright",
    "blurred",
    "imbalance",
    "group_leak",
    "unreadable",
]
Action = Literal["relabel", "exclude", "quarantine", "split", "none"]
SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
_NAMED = 3


def name_some(names: Sequence[str], total: int | None = None) -> str:
    """Returns the first names and how many more there are: “a, b, c and 4 more”.

    Args:
        names: At least one.
        total: How many there are in all. Defaults to all of `names`.
    """
    total = len(names) if total is None else total
    shown = list(names[:_NAMED])
    if total > len(shown):
        return f"{', '.join(shown)} and {total - len(shown):,} more"
    return join_words(shown)


def join_words(words: Sequence[str]) -> str:
    """Returns “a”, “a and b”, “a, b and c”."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def as_percent(share: float) -> str:
    """Returns a share as whole percent, never 0 % nor 100 % of what is not."""
    return f"{min(99, max(1, round(100 * share)))} %"
