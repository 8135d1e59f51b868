"""Curves: what a contender reached, epoch by epoch, and after how long."""

from typing import Any


def describe_curve(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns seconds since the clock started and accuracy, epoch by epoch."""
    began = next(line["at"] for line in lines if line["event"] == "clock")
    epochs = [
        {
            "seconds": round(line["at"] - began, 2),
            "val_accuracy": line["values"]["val_accuracy"],
        }
        for line in lines
        if line["event"] == "metrics"
    ]
    ready = {
        line["what"]: round(line["at"] - began, 2)
        for line in lines
        if line["event"] == "durable" and line["done"] >= line["total"]
    }
    return {"epochs": epochs, "ready": ready}


def find_best(curve: dict[str, Any]) -> float:
    """The best validation accuracy of a curve."""
    return max(epoch["val_accuracy"] for epoch in curve["epochs"])


def find_seconds(curve: dict[str, Any], target: float) -> float | None:
    """Seconds until the curve reached `target`, None where it never did."""
    for epoch in curve["epochs"]:
        # Two ways to divide the same two counts may differ in the last bits.
        if epoch["val_accuracy"] >= target - 1e-6:
            return epoch["seconds"]
    return None
