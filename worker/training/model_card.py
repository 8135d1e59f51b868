"""Writes the model card: what the model is, what it was made of, how good it is.

Source of its parts: Mitchell et al., "Model cards for model reporting",
arXiv:1810.03993.
"""

from pathlib import Path
from typing import Any

from shared.base_models import get_base_model, resolve_image_size_px
from shared.durable_files import write_atomically
from shared.training_spec import TrainingSpec

_UNSURE_IMAGES = 30


def write_model_card(
    path: Path,
    *,
    title: str,
    spec: TrainingSpec,
    fingerprint: str,
    evaluation: dict[str, Any],
    best: dict[str, Any] | None = None,
    seconds: dict[str, float] | None = None,
    versions: dict[str, str] | None = None,
) -> None:
    """Writes the card as Markdown.

    Args:
        path: The file.
        title: The model's name.
        spec: What was asked for.
        fingerprint: Identity of the dataset version.
        evaluation: The content of evaluation.json, `parity` included.
        best: Phase, step, metric and value of the published weights.
        seconds: Wall time by phase.
        versions: Versions of what trained it.
    """
    parts = [
        f"# {title}",
        _describe_use(evaluation),
        "## How good it is",
        _describe_result(evaluation),
        _table_of_classes(evaluation),
        "## What it was trained on",
        _describe_data(evaluation, fingerprint),
        "## How it was made",
        _describe_training(spec, best, seconds),
        _list_settings(spec),
        "## How to load it",
        _describe_loading(evaluation),
        "## Limits",
        _describe_limits(evaluation, spec),
        _describe_versions(versions),
    ]
    with write_atomically(path) as part:
        text = "\n\n".join(text for text in parts if text) + "\n"
        part.write_text(text, encoding="utf-8")


def _describe_use(evaluation: dict[str, Any]) -> str:
    classes = evaluation["classes"]
    return (
        f"Says which one of {len(classes)} classes a picture shows: "
        f"{', '.join(_escape(label) for label in classes)}. Every picture gets exactly "
        "one label; there is no answer for “none of these”."
    )


def _describe_result(evaluation: dict[str, Any]) -> str:
    low, high = evaluation["interval"]
    lines = [
        (
            f"- Test accuracy: **{evaluation['accuracy']:.1%}** on "
            f"{evaluation['images']} pictures (95 % interval {low:.1%} to {high:.1%}, "
            "Wilson)."
        ),
        (
            f"- Always naming the most frequent class would reach "
            f"{evaluation['baseline_majority']:.1%}."
        ),
        f"- Test loss (cross-entropy): {evaluation['loss']:.4f}.",
        (
            f"- Expected calibration error: {evaluation['calibration']['ece']:.3f} "
            "(how far its confidence is from how often it is right)."
        ),
        "- The test pictures were used once, after everything had been decided.",
    ]
    return "\n".join(lines)


def _table_of_classes(evaluation: dict[str, Any]) -> str:
    rows = [
        "| class | precision | recall | F1 | test pictures |",
        "|---|---|---|---|---|",
    ]
    rows += [
        f"| {_escape(row['label'])} | {row['precision']:.3f} | {row['recall']:.3f} | "
        f"{row['f1']:.3f} | {row['images']} |"
        for row in evaluation["per_class"]
    ]
    return "\n".join(rows)


def _describe_data(evaluation: dict[str, Any], fingerprint: str) -> str:
    splits = evaluation.get("splits", {})
    counts = ", ".join(f"{count} {name}" for name, count in splits.items())
    return (
        f"Dataset version `{fingerprint}`: {counts} pictures. Identical pictures never "
        "lie in two splits."
    )


def _describe_training(
    spec: TrainingSpec, best: dict[str, Any] | None, seconds: dict[str, float] | None
) -> str:
    base = get_base_model(spec.base_model)
    size = resolve_image_size_px(spec.base_model, spec.image_size_px)
    weights = {None: "random weights", "imagenet": "ImageNet weights"}.get(
        spec.weights, "the user's own weights"
    )
    lines = [
        f"- Base model: {base.name} ({base.family.name}, {base.parameters:,} "
        f"parameters) with {weights}"
        + (f", licence {base.family.licence}." if spec.weights == "imagenet" else "."),
        f"- Pictures: {size} x {size} pixels, fit `{spec.fit}`.",
        f"- Random changes to training pictures: {_list_changes(spec)}.",
        (
            f"- Head: hidden layers {spec.head.units or 'none'}, dropout "
            f"{spec.head.dropout}."
        ),
        (
            f"- At most {spec.frozen_epochs} epochs on the frozen base, then at most "
            f"{spec.fine_tune_epochs} of fine-tuning; {spec.optimizer}, batches of "
            f"{spec.batch_size}, seed {spec.seed}."
        ),
    ]
    if best:
        lines.append(
            f"- Published weights: {best['phase']} phase, step {best['step']}, "
            f"{best['monitor']} {best['value']:.4f}."
        )
    if seconds:
        times = ", ".join(f"{name} {spent:.0f} s" for name, spent in seconds.items())
        lines.append(f"- Time: {times}.")
    return "\n".join(lines)


def _list_changes(spec: TrainingSpec) -> str:
    """Names the changes that were made: a plain view and nothing after it has none."""
    if not spec.fine_tune_epochs and spec.feature_views == 1:
        return "none"
    bounds = spec.augmentation.model_dump(exclude={"measured"})
    made = [
        kind.replace("_", " ") + ("" if bound is True else f" up to {bound:g}")
        for kind, bound in bounds.items()
        if bound
    ]
    if spec.fine_tune_epochs:
        blends = {"mixup": spec.mixup, "cutmix": spec.cutmix}
        made += [f"{name} {alpha:g}" for name, alpha in blends.items() if alpha]
    return ", ".join(made) or "none"


def _list_settings(spec: TrainingSpec) -> str:
    return f"All settings:\n\n```json\n{spec.model_dump_json(indent=2)}\n```"


def _describe_loading(evaluation: dict[str, Any]) -> str:
    lines = [
        (
            "`saved_model.zip` needs TensorFlow and nothing else; `load_example.py` in "
            "it shows how. `serving_default` takes the bytes of JPEG or PNG files, "
            "`pixels` takes pictures that have the right size already (float32, 0 to "
            "255)."
        )
    ]
    parity = evaluation.get("parity")
    if parity:
        lines.append(
            f"Before it was published, a clean process reloaded it and predicted "
            f"{parity['golden_images']} pictures: probabilities differed by "
            f"{parity['pixels_max_abs_diff']:.1g} at most and every label was the same."
        )
    return "\n\n".join(lines)


def _describe_limits(evaluation: dict[str, Any], spec: TrainingSpec) -> str:
    lines = [
        (
            "- It knows pictures like those it was trained on; on others its "
            "confidence says little."
        ),
        (
            "- The interval speaks of chance in the choice of test pictures, not of "
            "pictures from another camera, place or time."
        ),
    ]
    few = [
        row["label"]
        for row in evaluation["per_class"]
        if row["images"] < _UNSURE_IMAGES
    ]
    if few:
        lines.append(
            f"- Fewer than {_UNSURE_IMAGES} test pictures, so their rows above are "
            f"unsure: {', '.join(_escape(label) for label in few)}."
        )
    if spec.weights == "imagenet":
        lines.append("- ImageNet's photographs and their biases shaped the base model.")
    return "\n".join(lines)


def _describe_versions(versions: dict[str, str] | None) -> str:
    if not versions:
        return ""
    return "Made with " + ", ".join(f"{k} {v}" for k, v in versions.items()) + "."


def _escape(label: str) -> str:
    """A user's label must not become markup of the card."""
    for mark in "\\`*_[]<>|#":
        label = label.replace(mark, "\\" + mark)
    return label
