"""The promise of each preset: accuracy, minutes, memory and disk."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shared.training_spec import TrainingSpec
from worker.insight.cross_validation import Probed
from worker.insight.independence import measure_design_effect, transfer_design_effect
from worker.insight.preset_accuracy import Expected, Experience, foresee
from worker.insight.resources import (
    Costs,
    Sizes,
    correct_seconds,
    describe_doubt,
    reckon_disk,
    reckon_seconds,
)
from worker.insight.step_timing import CannotTime

# The validation split may be labelled with more care than the training split, or the
# other way round: beyond so many standard deviations it is no chance.
_SIGNIFICANT = 3.0


@dataclass(frozen=True)
class Judged:
    """How good a probe is, by the pictures whose labels can be relied upon.

    Args:
        accuracy: 0 to 1.
        images: Pictures that it was judged on.
        doubts_training: Whether only validation pictures were: their labels agree with
            the probe far more often than those of the training pictures.
        design_effect: By how much their groups widen what chance does to the accuracy.
        test_design_effect: The same for the test split.
    """

    accuracy: float
    images: int
    doubts_training: bool
    design_effect: float = 1.0
    test_design_effect: float = 1.0


def judge_probe(
    probed: Probed,
    labels: np.ndarray,
    val: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    test: np.ndarray | None = None,
) -> Judged:
    """Returns the accuracy to build a promise on.

    The test split is labelled like the validation split, if anything is. Wrong labels
    in the training split alone make a probe look worse than it is; one that is judged
    on them would promise too little.

    Args:
        probed: What a probe says of training and validation pictures.
        labels: Class numbers of all images.
        val: Positions of the validation pictures.
        groups: Of all images; None for each by itself.
        test: Positions of the test pictures, of which nothing but the groups is read.
    """
    right = probed.predicted == labels[probed.rows]
    is_val = np.isin(probed.rows, val)
    own = None if groups is None else groups[probed.rows]
    effect = measure_design_effect(right, own)
    doubts = _doubts_training(right, is_val, effect)
    believed = is_val if doubts else np.ones(len(right), bool)
    if own is not None:
        own = own[believed]
        effect = measure_design_effect(right[believed], own)
    of_test = None if groups is None or test is None else groups[test]
    return Judged(
        float(right[believed].mean()),
        int(believed.sum()),
        doubts,
        effect,
        transfer_design_effect(effect, own, of_test),
    )


def _doubts_training(right: np.ndarray, is_val: np.ndarray, effect: float) -> bool:
    if not is_val.any() or is_val.all():
        return False
    held_out, fitted = right[is_val], right[~is_val]
    share = float(right.mean())
    noise = share * (1 - share) * (1 / len(held_out) + 1 / len(fitted)) * effect
    gap = float(held_out.mean() - fitted.mean())
    return gap > _SIGNIFICANT * math.sqrt(max(noise, 1e-12))


def describe_doubt_of_labels(judged: Judged) -> str | None:
    """Returns a sentence where the training split's labels are not relied upon."""
    if not judged.doubts_training:
        return None
    return (
        "The labels of the training pictures agree far less with what the pictures "
        "show than those of the validation pictures do: many of them may be wrong. "
        f"What is promised rests on the {judged.images:,} validation pictures alone."
    )


def describe_preset(
    name: str,
    spec: TrainingSpec,
    *,
    judged: Judged,
    sizes: Sizes,
    costs: Costs,
    history: Sequence[dict[str, Any]],
    memory_bytes: int,
    obstacle: CannotTime | None = None,
) -> dict[str, Any]:
    """Returns one entry of the section `presets` of forecast.json.

    Args:
        name: Of the preset.
        spec: Its training spec.
        judged: The probe of the features that it starts from.
        sizes: How much data there is.
        costs: What was measured.
        history: Finished trainings, as in SPEC.json.
        memory_bytes: What a training is expected to hold.
        obstacle: Why no step of it could be made here.
    """
    facts = {
        "memory_bytes": None if obstacle else memory_bytes,
        "obstacle": str(obstacle) if obstacle else None,
        "disk_bytes": reckon_disk(spec, sizes, costs.feature_size),
        "probe": {
            "accuracy": judged.accuracy,
            "images": judged.images,
            "independent_images": judged.images / judged.design_effect,
        },
        "test": {
            "images": sizes.test,
            "independent_images": sizes.test / judged.test_design_effect,
        },
        "reckoned_seconds": list(reckon_seconds(spec, sizes, costs)),
        "step_deviation": costs.steps.deviation if costs.steps else 0.0,
        "costs": asdict(costs),
    }
    return facts | promise(name, facts, history)


def promise(
    name: str, facts: dict[str, Any], history: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Returns what is promised of a preset: `accuracy`, `seconds` and a `sentence`.

    No seconds are promised of one that cannot be trained here.

    Args:
        name: Of the preset.
        facts: `probe`, `test`, `reckoned_seconds`, `step_deviation` and `obstacle`.
        history: Finished trainings, as in SPEC.json.
    """
    same = [job for job in history if job.get("preset") == name]
    expected = foresee(
        name,
        facts["probe"]["accuracy"],
        probe_images=facts["probe"]["independent_images"],
        test_images=facts["test"]["independent_images"],
        finished=_experiences(same),
    )
    told = {"accuracy": [expected.low, expected.middle, expected.high]}
    if facts.get("obstacle"):
        sentence = _say_accuracy(expected) + f", but not here: {facts['obstacle']}."
        return told | {"seconds": None, "sentence": sentence}
    ratios = _ratios(same)
    short, likely, long = facts["reckoned_seconds"]
    seconds = correct_seconds((short, likely, long), ratios, facts["step_deviation"])
    times = _say_times(seconds, ratios, has_steps=facts["step_deviation"] > 0)
    sentence = f"{_say_accuracy(expected)}, {times}."
    return told | {"seconds": list(seconds), "sentence": sentence}


def _experiences(jobs: Sequence[dict[str, Any]]) -> list[Experience]:
    found = []
    for job in jobs:
        promised = job.get("promised") or {}
        probe, test = promised.get("probe"), promised.get("test")
        if probe and test and job.get("accuracy") is not None:
            found.append(
                Experience(
                    probe=float(probe["accuracy"]),
                    probe_images=float(probe["independent_images"]),
                    delivered=float(job["accuracy"]),
                    test_images=float(test["independent_images"]),
                    dataset=job.get("dataset_id"),
                    same_dataset=bool(job.get("same_dataset")),
                )
            )
    return found


def _ratios(jobs: Sequence[dict[str, Any]]) -> list[float]:
    """What finished trainings took, against what was reckoned for them before.

    One that ended between its own shortest and longest says nothing of what an epoch
    takes: where early stopping ended it was chance, and is no fault of the reckoning.
    """
    found = []
    for job in jobs:
        promised = job.get("promised") or {}
        if promised.get("obstacle"):
            continue  # without steps to time, hardly anything was reckoned
        reckoned = promised.get("reckoned_seconds")
        taken = job.get("running_seconds")
        if reckoned and taken and job.get("same_worker", True):
            possible = min(max(float(taken), float(reckoned[0])), float(reckoned[2]))
            found.append(float(taken) / possible)
    return found


def _say_accuracy(expected: Expected) -> str:
    trainings, datasets = expected.trainings, expected.datasets
    experience = "a first guess, since no training has finished yet"
    if trainings:
        experience = (
            f"{trainings} finished training{'s' if trainings > 1 else ''} on "
            f"{datasets} dataset{'s' if datasets > 1 else ''}"
        )
    return (
        f"Expect {expected.low:.0%} to {expected.high:.0%} on the test split, most "
        f"likely {expected.middle:.1%} (from a probe and {experience})"
    )


def _say_times(
    seconds: Sequence[float], ratios: Sequence[float], *, has_steps: bool
) -> str:
    low, high = max(1, round(seconds[0] / 60)), max(1, math.ceil(seconds[2] / 60))
    span = f"{low} to {high} minutes" if high > low else f"about {high} min"
    return f"after {span} ({describe_doubt(ratios, has_steps=has_steps)})"
