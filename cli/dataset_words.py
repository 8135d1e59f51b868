"""Datasets as people read them in a terminal."""

from typing import Any

from cli.output import say


def summarise(dataset: dict[str, Any]) -> None:
    """Says in one line what a dataset holds."""
    report = dataset.get("report") or {}
    if not report:
        say(f"{dataset['name']} (id {dataset['id']}) has no readable version yet.")
        return
    images = report.get("images", dataset.get("images"))
    words = f"{dataset['name']} (id {dataset['id']}): {images} images"
    words += f" in {len(report.get('classes') or [])} classes"
    if report.get("skipped_total"):
        words += f", {report['skipped_total']} files left out"
    say(words)
