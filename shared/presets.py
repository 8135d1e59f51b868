"""The presets: training specs with a name, and what a user changes in one.

What each setting bought is measured in `docs/recipes.md`.
"""

import functools
from typing import Any

from shared.base_models import get_base_model
from shared.errors import UserError
from shared.training_spec import TrainingSpec, is_random, parse_training_spec

# A head that starts at the regression on its features is done: one epoch at a rate that
# moves nothing judges it and saves it.
_REGRESSION = {
    "head_start": "logistic",
    "frozen_epochs": 1,
    "frozen_learning_rate": 1e-6,
}
# Small steps of the whole base, from there. Fine-tuning sees augmented pictures alone;
# a head that knows only the plain ones begins with errors that spoil the base (solar
# cells, after one epoch: 0.50 validation loss, and 0.37 with two augmented views, there
# without dropout; one run each). So do changes that hide what tells the classes apart.
_FINE_TUNED = {
    "feature_maps": "blocks",
    "feature_views": 3,
    **_REGRESSION,
    "unfreeze_from": 0,
    "fine_tune_learning_rate": 1e-4,
    "weight_averaging": 0.98,
    "test_time_augmentation": True,
    "augmentation": {"measured": True},
}

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},
    "balanced": {**_FINE_TUNED, "fine_tune_epochs": 6},
    "best": {**_FINE_TUNED, "fine_tune_epochs": 15},
}
DEFAULT_PRESET = "fast"
# Of a spec, what changes neither the accuracy nor the time that is to be expected.
_BESIDES = frozenset({"seed"})

# A base without pretrained weights has no features to judge or to train a head on: all
# of it learns from the first step on, at a rate for random weights.
_FROM_SCRATCH = {
    "head_start": "random",
    "feature_views": 1,
    "augmentation": {"measured": False},
    "unfreeze_from": 0,
    "batch_norm": "trained",
    "fine_tune_learning_rate": 1e-3,
}
_EPOCHS_FROM_SCRATCH = {"fast": 30, "balanced": 60, "best": 120}

# They look at pictures a third larger than those the base was trained on: 300 px, not
# 224. Small marks show there, and whole pictures in finer detail (Touvron et al.,
# "Fixing the train-test resolution discrepancy", arXiv:1906.06423).
_ENLARGED = {"balanced": 4 / 3, "best": 4 / 3}
_SIZE_STEP_PX, _LARGEST_PX = 4, 1024


def build_training_spec(
    preset: str | None = None, overrides: dict[str, Any] | None = None
) -> TrainingSpec:
    """Makes the validated spec of `preset` with `overrides` on top.

    Args:
        preset: A name in `PRESETS`. Defaults to `fast`.
        overrides: Fields that differ from the preset; nested objects (`head`,
            `augmentation`) are merged key by key. What a preset sets and an override
            leaves no room for gives way; two overrides that exclude each other do not.

    Raises:
        UserError: Naming every unknown or invalid field, its range and what came.
    """
    name, changes = preset or DEFAULT_PRESET, overrides or {}
    if name not in PRESETS:
        raise UserError(
            f"`preset` must be one of {', '.join(PRESETS)}. Received: preset={name!r}.",
            field="preset",
        )
    fields = merge(_make_room(name, changes), changes)
    if name in _ENLARGED and "image_size_px" not in changes:
        base_model = parse_training_spec(fields).base_model
        fields["image_size_px"] = _enlarge(base_model, _ENLARGED[name])
    return parse_training_spec(fields)


def is_plain(preset: str | None, training: dict[str, Any]) -> bool:
    """Whether a training has the settings of its preset as they are now.

    Args:
        preset: A name, of today or of an earlier release.
        training: A training spec; what an earlier release did not know is off in it.
    """
    if preset not in PRESETS:
        return False
    try:
        spec = parse_training_spec(training)
    except UserError:
        return False  # it has a setting that is gone
    return _list_settings(spec) == _list_plain_settings(preset)


@functools.cache
def _list_plain_settings(preset: str) -> dict[str, Any]:
    return _list_settings(build_training_spec(preset))


def _list_settings(spec: TrainingSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude=set(_BESIDES))


def _enlarge(base_model: str, times: float) -> int:
    side = get_base_model(base_model).native_size_px * times
    return min(_LARGEST_PX, _SIZE_STEP_PX * round(side / _SIZE_STEP_PX))


def _make_room(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Returns the preset `name` without what the user's own changes exclude."""
    kept = dict(PRESETS[name])
    if is_random(changes.get("weights", "imagenet")):
        kept = {name: kept[name] for name in kept if name not in _REGRESSION}
        kept |= _FROM_SCRATCH | _count_epochs_from_scratch(name, changes)
    # The regression has no hidden layers and begins the frozen phase; a random head
    # needs epochs to learn in.
    has_random_head = (
        _of(changes, "head", "units") or changes.get("head_start") == "random"
    )
    if has_random_head or changes.get("frozen_epochs") == 0:
        kept = {name: kept[name] for name in kept if name not in _REGRESSION}
    elif "frozen_epochs" in changes:
        kept.pop("frozen_learning_rate", None)  # epochs are wanted that teach something
    if "augmentation" in changes or changes.get("frozen_epochs") == 0:
        # The user knows the pictures; or no frozen base is there to judge.
        kept = merge(kept, {"augmentation": {"measured": False}})
    flips = _of(changes, "augmentation", "vertical_flip") or _of(
        changes, "augmentation", "measured"
    )
    if _of(changes, "augmentation", "horizontal_flip") is False and not flips:
        kept.pop("test_time_augmentation", None)  # no mirror image is left
    return kept


def _count_epochs_from_scratch(name: str, changes: dict[str, Any]) -> dict[str, int]:
    """Returns the phases of a training from scratch, unless the user wants others."""
    wants_frozen_phase = (
        changes.get("frozen_epochs")
        or changes.get("fine_tune_epochs") == 0
        or changes.get("head_start") == "logistic"
        or _of(changes, "augmentation", "measured")
    )
    if wants_frozen_phase:
        return {}
    return {"frozen_epochs": 0, "fine_tune_epochs": _EPOCHS_FROM_SCRATCH[name]}


def _of(changes: dict[str, Any], group: str, name: str) -> Any:
    fields = changes.get(group)
    return fields.get(name) if isinstance(fields, dict) else None


def merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Returns `base` with `overrides` on top, nested objects merged key by key."""
    merged = dict(base)
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged
