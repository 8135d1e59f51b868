"""The promise of each preset: accuracy, minutes, memory and disk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.training_spec import TrainingSpec
from worker.insight.cross_validation import Probed
from worker.insight.preset_accuracy import Expected, Experience, foresee
from worker.insight.resources import (
    Costs,
    Sizes,
    correct_seconds,
    describe_doubt,
    reckon_disk,
    reckon_seconds,
)

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
    """

    accuracy: float
    images: int
    doubts_training: bool


def judge_probe(probed: Probed, labels: np.ndarray, val: np.ndarray) -> Judged:
    """Returns the accuracy to build a promise on.

    The test split is labelled like the validation split, if anything is. Wrong labels
    in the training split alone make a probe look worse than it is; one that is judged
    on them would promise too little.

    Args:
        probed: What a probe says of training and validation pictures.
        labels: Class numbers of all images.
        val: Positions of the validation pictures.
    """
    right = probed.predicted == labels[probed.rows]
    is_val = np.isin(probed.rows, val)
    hits, images = int(right.sum()), len(right)
    if is_val.any() and not is_val.all():
        held_out, fitted = right[is_val], right[~is_val]
        share = hits / images
        noise = share * (1 - share) * (1 / len(held_out) + 1 / len(fitted))
        gap = float(held_out.mean() - fitted.mean())
        if gap > _SIGNIFICANT * math.sqrt(max(noise, 1e-12)):
            return Judged(float(held_out.mean()), len(held_out), True)
    return Judged(hits / images, images, False)


def describe_preset(
    name: str,
    spec: TrainingSpec,
    *,
    judged: Judged,
    sizes: Sizes,
    costs: Costs,
    history: Sequence[dict[str, Any]],
    memory_bytes: int,
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
    """
    facts = {
        "memory_bytes": memory_bytes,
        "disk_bytes": reckon_disk(spec, sizes, costs.feature_size),
        "probe": {"accuracy": judged.accuracy, "images": judged.images},
        "reckoned_seconds": list(reckon_seconds(spec, sizes, costs)),
        "step_deviation": costs.steps.deviation if costs.steps else 0.0,
    }
    return facts | promise(name, facts, test_images=sizes.test, history=history)


def promise(
    name: str,
    facts: dict[str, Any],
    *,
    test_images: int,
    history: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Returns what is promised of a preset: `accuracy`, `seconds` and a `sentence`.

    Args:
        name: Of the preset.
        facts: `probe`, `reckoned_seconds` and `step_deviation`, as measured.
        test_images: Pictures of the test split.
        history: Finished trainings, as in SPEC.json.
    """
    same = [job for job in history if job.get("preset") == name]
    expected = foresee(
        name,
        facts["probe"]["accuracy"],
        probe_images=facts["probe"]["images"],
        test_images=test_images,
        finished=_experiences(same),
    )
    ratios = _ratios(same)
    short, likely, long = facts["reckoned_seconds"]
    seconds = correct_seconds((short, likely, long), ratios, facts["step_deviation"])
    return {
        "accuracy": [expected.low, expected.middle, expected.high],
        "seconds": list(seconds),
        "sentence": _sentence(
            expected, seconds, ratios, has_steps=facts["step_deviation"] > 0
        ),
    }


def _experiences(jobs: Sequence[dict[str, Any]]) -> list[Experience]:
    found = []
    for job in jobs:
        probe = (job.get("promised") or {}).get("probe")
        test = (job.get("images") or {}).get("test")
        if probe and test and job.get("accuracy") is not None:
            found.append(
                Experience(
                    probe=float(probe["accuracy"]),
                    probe_images=int(probe["images"]),
                    delivered=float(job["accuracy"]),
                    test_images=int(test),
                    same_dataset=bool(job.get("same_dataset")),
                )
            )
    return found


def _ratios(jobs: Sequence[dict[str, Any]]) -> list[float]:
    """What finished trainings took, against what was reckoned for them before."""
    found = []
    for job in jobs:
        reckoned = (job.get("promised") or {}).get("reckoned_seconds")
        taken = job.get("running_seconds")
        if reckoned and taken and job.get("same_worker", True):
            found.append(float(taken) / float(reckoned[1]))
    return found


def _sentence(
    expected: Expected,
    seconds: Sequence[float],
    ratios: Sequence[float],
    *,
    has_steps: bool,
) -> str:
    low, high = seconds[0] / 60, seconds[2] / 60
    experience = (
        f"{expected.trainings} finished trainings"
        if expected.trainings
        else "a first guess, since no training has finished yet"
    )
    return (
        f"Expect {expected.low:.0%} to {expected.high:.0%} on the test split, most "
        f"likely {expected.middle:.1%} (from a probe and {experience}), after "
        f"{max(1, low):.0f} to {max(1, math.ceil(high))} minutes "
        f"({describe_doubt(ratios, has_steps=has_steps)})."
    )
