"""Chooses the random changes under which a dataset's classes stay what they are.

Which changes do no harm depends on the pictures. Photographs of waste are recognised
turned, shifted and enlarged; on solar cells, whose frames lie along the pictures'
edges, each of these hides what tells an intact cell from a broken one, and mirror
images do not. So each kind of change is judged by itself:

1. The logistic regression on the frozen base's features of the plain training pictures
   says how much the features tell about the classes: the entropy of the classes less
   the mean log-loss on validation pictures.
2. The same validation pictures are changed, and the same regression judges them.
3. A kind of change that loses more than a fifth of what was known is not made.

What was lost under the default bounds, EfficientNet-Lite0, 224 px, all blocks, a split
each: on the solar cells of elpv 351 % by turning, 171 % by zooming, 124 % by shifting,
at most 7 % by mirroring and nothing by brightness; on TrashNet at most 2 % by any.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shared.durable_files import write_atomically
from shared.training_spec import Augmentation, TrainingSpec
from worker import decode
from worker.training import augment
from worker.training.augment import Draws
from worker.training.pack import Pack
from worker.training.regression import Regression, fit_regression

# Raise it with any change to what is measured or how it is judged.
_VERSION = 1

_MOST_LOST = 0.2
_MOST_PICTURES = 400
# Fewer pictures, or features that tell less than this share of what there is to know,
# say nothing about changes: those asked for are made.
_FEWEST_PICTURES = 30
_LEAST_TOLD = 0.05

# The kinds that are judged, and those that are judged even where nobody asked for them.
FLIPS = ("horizontal_flip", "vertical_flip")
WARPS = ("rotation", "zoom", "shift", "brightness")

Compute = Callable[[np.ndarray], np.ndarray]
Report = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Choice:
    """The changes that are made, and why.

    Args:
        augmentation: The bounds of the changes; nothing is left to measure.
        lost: Share of what the features tell that each kind loses; empty where
            nothing could be measured.
    """

    augmentation: Augmentation
    lost: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns the choice as JSON values."""
        fields = self.augmentation.model_dump(mode="json")
        return {"augmentation": fields, "lost": self.lost}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Choice":
        """Reads what `to_json` wrote."""
        augmentation = Augmentation.model_validate(fields["augmentation"])
        lost = {str(kind): float(share) for kind, share in fields["lost"].items()}
        if augmentation.measured or not set(lost) <= {*FLIPS, *WARPS}:
            raise ValueError("This is no choice of augmentation.")
        return cls(augmentation, lost)

    def describe(self) -> str:
        """Returns a sentence for the job's page."""
        if not self.lost:
            return (
                "Too few validation pictures, or classes that a linear classifier "
                "cannot tell apart: augmentation was not measured, and is made as "
                "given."
            )
        kept = self.augmentation.model_dump()
        made = [_say(kind, lost) for kind, lost in self.lost.items() if kept[kind]]
        left = [_say(kind, lost) for kind, lost in self.lost.items() if not kept[kind]]
        return (
            "Measured which augmentation leaves the classes recognisable (in brackets, "
            "how much of what the features tell is lost). "
            f"Made: {', '.join(made) or 'none'}. Left out: {', '.join(left) or 'none'}."
        )


def choose(
    pack: Pack,
    features: np.ndarray,
    given: Augmentation,
    *,
    compute: Compute,
    seed: int,
    report: Report = lambda _done, _total: None,
) -> Choice:
    """Returns the kinds of change in `given`, and flips, that do no harm.

    Args:
        pack: Its training split is fitted, its validation split judges.
        features: Of the plain pictures.
        given: The bounds to judge within.
        compute: Returns the features of pictures, as `features` were computed.
        seed: The run's seed.
        report: Told how many changed pictures of how many are judged.

    Shapes:
        features: (rows, size) float32, as in the pack.
    """
    rows = _draw_rows(pack, seed)
    as_given = Choice(given.model_copy(update={"measured": False}), {})
    if len(rows) < _FEWEST_PICTURES or not np.isfinite(features[rows]).all():
        return as_given
    regression = fit_regression(
        [features],
        pack.labels,
        train=pack.splits["train"],
        held_out=rows,
        classes=len(pack.classes),
        seed=seed,
    )
    labels = pack.labels[rows]
    plain = regression.measure_loss(features[rows], labels)
    entropy = _measure_entropy(labels)
    told = entropy - plain
    if told <= _LEAST_TOLD * entropy:
        return as_given
    lost = {
        kind: round((loss - plain) / told, 4)
        for kind, loss in _measure(pack, rows, given, regression, compute, report, seed)
    }
    return Choice(_keep(given, lost), lost)


def find_stored(path: Path) -> Choice | None:
    """Returns the choice kept in `path`; None where there is none that can be read."""
    try:
        return Choice.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def store(path: Path, choice: Choice) -> None:
    """Keeps `choice` in `path` for every later job of the same kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as part:
        part.write_text(json.dumps(choice.to_json()))


def name_file(
    pack: Pack, base_identity: Any, spec: TrainingSpec, *, precision: str
) -> str:
    """Returns the name of the file that keeps the choice.

    Args:
        pack: The pictures.
        base_identity: What the base is.
        spec: Names the bounds, the seed, and how pictures become squares.
        precision: Of the features that judge.
    """
    facts = {
        "version": _VERSION,
        "changes": augment.describe_changes(),
        "decoder": decode.describe_decoder(),
        "fingerprint": pack.fingerprint,
        "image_size_px": pack.image_size_px,
        "fit": str(spec.fit),
        "base": base_identity,
        "given": spec.augmentation.model_dump(mode="json"),
        "precision": precision,
        "seed": spec.seed,
    }
    text = json.dumps(facts, sort_keys=True)
    return f"augmentation-{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _draw_rows(pack: Pack, seed: int) -> np.ndarray:
    rows = np.sort(pack.splits["val"])
    if len(rows) <= _MOST_PICTURES:
        return rows
    random = np.random.default_rng(seed)
    return np.sort(random.choice(rows, _MOST_PICTURES, replace=False))


def _measure_entropy(labels: np.ndarray) -> float:
    """Mean log-loss of who knows how frequent the classes are, and no more; nats."""
    counts = np.bincount(labels)
    shares = counts[counts > 0] / len(labels)
    return float(-(shares * np.log(shares)).sum())


def _measure(  # noqa: PLR0917 - the order in which they are used
    pack: Pack,
    rows: np.ndarray,
    given: Augmentation,
    regression: Regression,
    compute: Compute,
    report: Report,
    seed: int,
) -> list[tuple[str, float]]:
    """Returns the mean log-loss on the pictures changed in one way at a time."""
    pixels, labels = np.asarray(pack.pixels[rows]), pack.labels[rows]
    kinds = (*FLIPS, *(warp for warp in WARPS if getattr(given, warp)))
    losses = []
    for number, kind in enumerate(kinds):
        report(number * len(rows), len(kinds) * len(rows))
        draws = _draw_alone(kind, given, rows, seed)
        changed = augment.apply(pixels, draws)
        losses.append((kind, regression.measure_loss(compute(changed), labels)))
    return losses


def _draw_alone(kind: str, given: Augmentation, rows: np.ndarray, seed: int) -> Draws:
    """Draws one kind of change; flips mirror every picture, not every other one."""
    nothing = dict.fromkeys(FLIPS, False) | dict.fromkeys(WARPS, 0.0)
    alone = given.model_copy(update=nothing | {kind: getattr(given, kind)})
    draws = augment.draw(alone, rows, seed=seed, epoch=0)
    mirrored = np.full(len(rows), -1.0)
    if kind == "horizontal_flip":
        return dataclasses.replace(draws, flip_x=mirrored)
    if kind == "vertical_flip":
        return dataclasses.replace(draws, flip_y=mirrored)
    return draws


def _keep(given: Augmentation, lost: dict[str, float]) -> Augmentation:
    harmless = {kind for kind, share in lost.items() if share <= _MOST_LOST}
    flips = {flip: flip in harmless for flip in FLIPS}
    warps = {warp: getattr(given, warp) if warp in harmless else 0.0 for warp in WARPS}
    return given.model_copy(update=flips | warps | {"measured": False})


def _say(kind: str, lost: float) -> str:
    return f"{kind.replace('_', ' ')} ({max(0.0, lost):.0%})"
