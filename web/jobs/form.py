"""The submit form: its fields, made from the training spec, and what was filled in."""

import json
from dataclasses import dataclass, field
from typing import Any

from werkzeug.datastructures import MultiDict

from shared import base_models
from shared.errors import UserError
from shared.job_submit_store import DEFAULT_QUEUE
from shared.presets import DEFAULT_PRESET, PRESETS
from shared.training_spec import TrainingSpec
from web.jobs.sweep_form import Sweep, read_sweep
from web.row_numbers import read_numbers
from web.workers.base_models import Told, find_availability

DEFAULT_BASE_MODEL = TrainingSpec().base_model
PRESET_WORDS = {
    "fast": "Trains the head alone. Minutes.",
    "balanced": "Larger pictures; fits the head, then fine-tunes the whole base.",
    "best": "As balanced, for more than twice as long.",
}
GROUPS = {
    "Pictures": (
        "image_size_px", "fit", "batch_size", "gradient_accumulation_steps",
    ),
    "Head": ("feature_maps", "head.units", "head.dropout", "head_start"),
    "Augmentation": (
        "augmentation.measured", "augmentation.horizontal_flip",
        "augmentation.vertical_flip", "augmentation.rotation", "augmentation.zoom",
        "augmentation.shift", "augmentation.brightness", "mixup", "cutmix",
        "feature_views", "test_time_augmentation",
    ),
    "Training": (
        "frozen_epochs", "frozen_learning_rate", "fine_tune_epochs",
        "fine_tune_learning_rate", "unfreeze_from", "batch_norm", "first_layer_rate",
        "weight_averaging", "optimizer",
        "learning_rate_schedule", "plateau_factor", "plateau_patience",
        "class_weights", "label_smoothing", "weights",
    ),
    "Stopping and checkpoints": (
        "checkpoint_every.epochs", "checkpoint_every.steps", "monitor",
        "save_best_only", "early_stopping_patience", "seed", "deterministic",
    ),
}  # fmt: skip
# Fields whose own name says too little.
WORDS = {"augmentation.measured": "measured augmentation"}
PREFIX = "set."
# When and where; `zone` is how far the browser's `not_before` is ahead of UTC.
WISHES = ("queue", "priority", "gpu_mem_mb", "not_before", "zone", "preemptible")


@dataclass(frozen=True)
class FormField:
    """One advanced field as the page shows it."""

    name: str
    words: str
    help: str
    placeholder: str
    inputmode: str = "text"
    choices: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Filled:
    """What the form holds when it is shown: its defaults, or what was sent."""

    datasets: list[int]
    presets: list[str]
    base_models: list[str]
    model_name: str = ""
    values: dict[str, str] = field(default_factory=dict)
    wishes: dict[str, str] = field(default_factory=dict)
    sweep: Sweep = field(default_factory=Sweep)

    @property
    def advanced(self) -> bool:
        """Whether an advanced field holds something."""
        return any(self.values.values())

    @property
    def waits(self) -> bool:
        """Whether it says when or where."""
        asked = {name: text for name, text in self.wishes.items() if text}
        if asked.get("queue") == DEFAULT_QUEUE:
            del asked["queue"]
        return bool(asked.keys() - {"zone"})


def read(values: MultiDict[str, str]) -> Filled:
    """Returns what was sent; raises nothing, whatever it is."""
    return Filled(
        datasets=read_numbers(values.getlist("dataset")),
        presets=values.getlist("preset"),
        base_models=values.getlist("base_model"),
        model_name=values.get("model_name", "").strip(),
        values={
            key.removeprefix(PREFIX): value.strip()
            for key, value in values.items()
            if key.startswith(PREFIX)
        },
        wishes={name: values.get(name, "").strip() for name in WISHES},
        sweep=read_sweep(values),
    )


def defaults(asked: MultiDict[str, str]) -> Filled:
    """Returns the form as it is first shown: with what the address asks for."""
    presets = [name for name in asked.getlist("preset") if name in PRESETS]
    known = {model.name for model in base_models.list_base_models()}
    bases = [name for name in asked.getlist("base_model") if name in known]
    return Filled(
        read_numbers(asked.getlist("dataset")),
        presets or [DEFAULT_PRESET],
        bases or [DEFAULT_BASE_MODEL],
    )


def build_overrides(values: dict[str, str]) -> dict[str, Any]:
    """Returns the advanced fields as changes to a preset.

    Raises:
        UserError: For a field that is no setting.
    """
    overrides: dict[str, Any] = {}
    known = _flatten(TrainingSpec.model_json_schema())
    for name, text in values.items():
        if not text:
            continue
        if name not in known:
            raise UserError(f"`{name}` is not a training setting.", field=name)
        target = overrides
        *parents, leaf = name.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[leaf] = _parse(name, text)
    return overrides


def list_families(told: list[Told]) -> list[dict[str, Any]]:
    """Returns the base models by family, those that work offline first.

    Args:
        told: What the training workers told of their weights.
    """
    families: dict[str, list[dict[str, Any]]] = {}
    for model in base_models.list_base_models():
        families.setdefault(model.family.name, []).append(
            {
                "name": model.name,
                "native_size_px": model.native_size_px,
                "parameters": model.parameters,
                "weights": find_availability(model, told),
            }
        )
    return [{"name": name, "members": members} for name, members in families.items()]


def list_presets() -> list[dict[str, str]]:
    """Returns the presets with a sentence each."""
    return [{"name": name, "words": PRESET_WORDS.get(name, "")} for name in PRESETS]


def list_fields() -> list[dict[str, Any]]:
    """Returns the advanced fields in groups, as the training spec describes them."""
    known = _flatten(TrainingSpec.model_json_schema())
    return [
        {
            "title": title,
            "fields": [
                _form_field(name, known[name]) for name in names if name in known
            ],
        }
        for title, names in GROUPS.items()
    ]


def _parse(name: str, text: str) -> Any:
    if name == "head.units":
        parts = [part for part in text.strip("[]").replace(",", " ").split() if part]
        return [_plain(part) for part in parts]
    return _plain(text)


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # thousands of brackets in each other
        return text


def _flatten(schema: dict[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    root = schema.get("$defs", {})
    fields: dict[str, dict[str, Any]] = {}

    def walk(node: dict[str, Any], path: str) -> None:
        for name, part in node["properties"].items():
            inner = root.get(part.get("$ref", "").rsplit("/", 1)[-1])
            if inner and "properties" in inner:
                walk(inner, f"{path}{name}.")
            else:
                fields[path + name] = {**(inner or {}), **part}

    walk(schema, prefix)
    return fields


def _form_field(name: str, part: dict[str, Any]) -> FormField:
    kinds = {part.get("type")} | {p.get("type") for p in part.get("anyOf", [])}
    default = part.get("default")
    choices = [(str(v), str(v)) for v in part.get("enum", [])]
    if "boolean" in kinds:
        choices = [("true", "on"), ("false", "off")]
    numeric = kinds & {"integer", "number"} and "string" not in kinds
    return FormField(
        name=name,
        words=WORDS.get(name)
        or name.rsplit(".", 1)[-1].replace("_", " ").replace(" px", " (px)"),
        help=part.get("description", "").replace("`", ""),
        placeholder="" if default is None else json.dumps(default).strip('"'),
        inputmode="decimal" if numeric else "text",
        choices=choices,
    )
