"""Reads SPEC.json: what one training attempt was asked to do.

The file is written by the supervisor, or by hand for a run without any server. It
carries everything: a child process reads no settings, no database, no environment.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from shared.errors import UserError
from shared.training_spec import TrainingSpec, parse_training_spec

# A shared folder on another host may hide a new file this long behind its negative
# name cache (reliability: pitfall 52), so an absent checkpoint is asked for again.
_MISSING_CHECKPOINT_SECONDS = 90.0
_MOST_ROLL_BACKS = 2


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that may be resumed.

    Args:
        path: Its folder.
        manifest_sha: Expected SHA-256 of its MANIFEST.json; None takes any manifest
            that its files agree with (a run without a database).
    """

    path: Path
    manifest_sha: str | None


@dataclass(frozen=True)
class Request:
    """One training attempt.

    Args:
        dataset: Dataset version, folder of class folders, or CSV file.
        training: The validated spec.
        caches: Folder that holds `packs/` and `features/`.
        engines: Folder of this machine's choices of engines and of converted bases.
        weights_dirs: Folders searched for weight files.
        download_weights: Whether absent ImageNet weights may be fetched.
        workdir: The attempt's own folder; only this attempt writes there.
        resume_from: Checkpoints to resume, newest first; None means those in
            `workdir`, as a run without a database does.
        threads: Compute threads on the CPU; None takes every core it may use.
        missing_checkpoint_seconds: How long an absent checkpoint is asked for again.
        job: The job's facts (`id`, `fence`, `model_name`), empty when run alone.
        spec_sha: SHA-256 of the training spec. The dataset is known by its
            fingerprint, not by where it lies.
        memory_kills: How many attempts of this job the kernel has killed for lack of
            memory.
        divergences: How many attempts of this job ended, in each phase, because the
            loss was no longer a number.
    """

    dataset: Path
    training: TrainingSpec
    caches: Path
    engines: Path
    weights_dirs: list[Path]
    download_weights: bool
    workdir: Path
    resume_from: list[Candidate] | None
    threads: int | None
    missing_checkpoint_seconds: float
    job: dict[str, Any]
    spec_sha: str
    memory_kills: int = 0
    divergences: dict[str, int] = field(default_factory=dict)

    def may_roll_back(self, phase: str) -> bool:
        """Whether a later attempt may do better in `phase` once the loss is no number.

        It is given half the learning rate, twice; whoever keeps the record counts.
        """
        return not self.runs_alone and self.divergences.get(phase, 0) < _MOST_ROLL_BACKS

    @property
    def runs_alone(self) -> bool:
        """Whether no supervisor keeps the record of this run's checkpoints."""
        return self.resume_from is None


def load_request(spec_path: Path, workdir: Path) -> Request:
    """Reads and validates SPEC.json.

    Raises:
        UserError: When the file cannot be read or asks for what cannot be done.
    """
    fields = _load_json(spec_path)
    if fields.get("kind", "train") != "train":
        raise UserError(
            f"`kind` must be 'train' here. Received: kind={fields['kind']!r}.",
            field="kind",
        )
    if not isinstance(fields.get("dataset"), str):
        raise UserError("`dataset` must name a folder or a CSV file.", field="dataset")
    training = parse_training_spec(fields.get("training", {}))
    caches = Path(fields.get("caches") or workdir / "caches")
    return Request(
        dataset=Path(fields["dataset"]),
        training=training,
        caches=caches,
        engines=_find_choices(fields, caches),
        weights_dirs=[Path(folder) for folder in fields.get("weights_dirs", [])],
        download_weights=fields.get("download_weights", True) is not False,
        workdir=workdir,
        resume_from=_candidates(fields.get("resume_from")),
        threads=fields.get("threads"),
        missing_checkpoint_seconds=float(
            fields.get("missing_checkpoint_seconds", _MISSING_CHECKPOINT_SECONDS)
        ),
        job=fields.get("job") or {},
        spec_sha=_digest(fields.get("training", {})),
        memory_kills=int(fields.get("memory_kills", 0)),
        divergences=fields.get("divergences") or {},
    )


def _find_choices(fields: dict[str, Any], caches: Path) -> Path:
    """On shared storage, else with the user: two runs by hand shall choose alike."""
    if fields.get("engines"):
        return Path(fields["engines"])
    if fields.get("caches"):
        return caches / "engines"
    return user_cache_path("trainyard") / "engines"


def _load_json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} must hold one JSON object.")
    return fields


def _candidates(rows: list[dict[str, str]] | None) -> list[Candidate] | None:
    if rows is None:
        return None
    return [Candidate(Path(row["path"]), row.get("manifest_sha")) for row in rows]


def _digest(training: dict[str, Any]) -> str:
    """Of what was stored: an update that adds a setting changes no training's spec."""
    text = json.dumps(training, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
