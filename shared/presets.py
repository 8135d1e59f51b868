"""The presets: training specs with a name, and what a user changes in one.

`docs/recipes.md` tells how settings are compared; these are not chosen by it yet.
"""

from typing import Any

from shared.errors import UserError
from shared.training_spec import TrainingSpec, parse_training_spec

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},
    "balanced": {
        "feature_views": 3,
        "fine_tune_epochs": 5,
        "early_stopping_patience": 5,
    },
    "best": {
        "feature_views": 4,
        "fine_tune_epochs": 15,
        "unfreeze_from": 0.3,
        "fine_tune_learning_rate": 3e-5,
        "early_stopping_patience": 6,
    },
}
DEFAULT_PRESET = "fast"


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
    return parse_training_spec(_merge(_make_room(PRESETS[name], changes), changes))


def _make_room(preset: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns `preset` without what the user's own changes exclude."""
    kept = dict(preset)
    if _of(changes, "head", "units"):
        kept.pop("head_start", None)  # the regression has no hidden layers
    flips = _of(changes, "augmentation", "vertical_flip")
    if _of(changes, "augmentation", "horizontal_flip") is False and not flips:
        kept.pop("test_time_augmentation", None)  # no mirror image is left
    return kept


def _of(changes: dict[str, Any], group: str, name: str) -> Any:
    fields = changes.get(group)
    return fields.get(name) if isinstance(fields, dict) else None


def _merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged
