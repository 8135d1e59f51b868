"""Reads SPEC.json: what one forecast was asked to do."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.presets import PRESETS, build_training_spec
from shared.training_spec import TrainingSpec


@dataclass(frozen=True)
class Request:
    """One forecast.

    Args:
        dataset: The dataset version's folder.
        caches: Folder that holds `packs/`, `features/` and `engines/`.
        engines: Folder of this machine's choices of engines.
        weights_dirs: Folders searched for weight files.
        download_weights: Whether absent ImageNet weights may be fetched.
        base_models: Those to compare, the default one first.
        accepted: Keys of findings that the user has accepted.
        history: Finished trainings of this installation, the newest first.
        worker: `id` and `name` of the worker that forecasts, empty when run alone.
        job: The job's facts, empty when run alone.
        times_steps: Whether steps of fine-tuning are timed.
    """

    dataset: Path
    caches: Path
    engines: Path
    weights_dirs: list[Path]
    download_weights: bool
    base_models: list[str]
    accepted: frozenset[str]
    history: list[dict[str, Any]]
    worker: dict[str, Any]
    job: dict[str, Any] = field(default_factory=dict)
    times_steps: bool = True

    def presets(self) -> dict[str, TrainingSpec]:
        """Returns the spec of every preset, as a job would have it."""
        return {name: build_training_spec(name) for name in PRESETS}

    def comparisons(self) -> dict[str, TrainingSpec]:
        """Returns the spec by which each base model is compared with the others."""
        return {
            name: build_training_spec("fast", {"base_model": name})
            for name in self.base_models
        }


def load_request(spec_path: Path, workdir: Path) -> Request:
    """Reads and validates SPEC.json.

    Raises:
        UserError: When the file cannot be read or asks for what cannot be done.
    """
    try:
        fields = json.loads(spec_path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{spec_path} cannot be read as JSON: {error}.") from error
    if not isinstance(fields, dict) or fields.get("kind") != "forecast":
        raise UserError(f"{spec_path} is no forecast.", field="kind")
    if not isinstance(fields.get("dataset"), str):
        raise UserError("`dataset` must name a dataset version.", field="dataset")
    caches = Path(fields.get("caches") or workdir / "caches")
    default = build_training_spec().base_model
    return Request(
        dataset=Path(fields["dataset"]),
        caches=caches,
        engines=Path(fields.get("engines") or caches / "engines"),
        weights_dirs=[Path(folder) for folder in fields.get("weights_dirs", [])],
        download_weights=fields.get("download_weights", True) is not False,
        base_models=list(fields.get("base_models") or [default]),
        accepted=frozenset(fields.get("accepted") or []),
        history=list(fields.get("history") or []),
        worker=dict(fields.get("worker") or {}),
        job=dict(fields.get("job") or {}),
        times_steps=fields.get("times_steps", True) is not False,
    )
