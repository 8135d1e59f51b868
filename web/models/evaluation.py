"""What pages show of `evaluation.json`: made safe against older or odd contents."""

from typing import Any

MAX_MATRIX_CLASSES = 30
MAX_CONFUSIONS = 20
HEATS = 4


def make_evaluation(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of the evaluation tables; absent numbers become None."""
    classes = [str(label) for label in content.get("classes") or []]
    interval = content.get("interval") or [None, None]
    calibration = content.get("calibration") or {}
    return {
        "accuracy": content.get("accuracy"),
        "interval": interval,
        "images": content.get("images"),
        "baseline": content.get("baseline_majority"),
        "loss": content.get("loss"),
        "ece": calibration.get("ece"),
        "per_class": content.get("per_class") or [],
        "classes": classes,
        "confusion": _make_matrix(classes, content.get("confusion") or []),
        "confusions": _list_confusions(classes, content.get("confusion") or []),
        "parity": content.get("parity"),
    }


def _make_matrix(classes: list[str], confusion: list[Any]) -> list[dict[str, Any]]:
    if len(classes) > MAX_MATRIX_CLASSES or len(confusion) != len(classes):
        return []
    return [
        {
            "label": label,
            "cells": [
                {"count": n, "heat": _heat(n, sum(counts)), "hit": j == i}
                for j, n in enumerate(counts)
            ],
        }
        for i, (label, counts) in enumerate(zip(classes, confusion, strict=True))
    ]


def _list_confusions(classes: list[str], confusion: list[Any]) -> list[dict[str, Any]]:
    """Returns the most frequent mistakes, where the matrix is too wide to show."""
    if len(classes) <= MAX_MATRIX_CLASSES or len(confusion) != len(classes):
        return []
    wrong = [
        {"truth": classes[i], "said": said, "count": count}
        for i, counts in enumerate(confusion)
        for j, (said, count) in enumerate(zip(classes, counts, strict=True))
        if count and i != j
    ]
    return sorted(wrong, key=lambda row: -row["count"])[:MAX_CONFUSIONS]


def _heat(count: int, row_total: int) -> int:
    """Returns 0 to 4: how much of its true class a cell holds."""
    if not count or not row_total:
        return 0
    return min(HEATS, 1 + int(HEATS * count / row_total * 0.999))
