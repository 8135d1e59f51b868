"""What the API takes and gives of dataset versions, as pydantic models."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from web.api.schemas import DatasetAdded, DatasetPath, RowNumber, Strict, Text
from web.datasets.decision import MAX_IMAGES

Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Mode = Literal["add", "replace"]
_NEARLY = 1e-6  # of one
By = Literal["duplicates", "folder", "column"]
PICTURE = {
    "description": "The bytes of a JPEG.",
    "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
}


class SplitRequest(Strict):
    """How pictures are dealt into training, validation and test."""

    train: Share | None = Field(default=None, description="Share; all three or none.")
    val: Share | None = Field(default=None, description="Share of validation.")
    test: Share | None = Field(default=None, description="Share of test.")
    seed: int | None = Field(default=None, ge=0, le=2**31, description="Of the draw.")
    by: By | None = Field(
        default=None,
        description="What one split must hold whole. Not named, it stays as it was.",
    )
    column: Text | None = Field(
        default=None, max_length=200, description="Of the label table, for `column`."
    )
    again: bool = Field(default=False, description="Deal all pictures anew.")

    @model_validator(mode="after")
    def _check_together(self) -> "SplitRequest":
        shares = [self.train, self.val, self.test]
        is_whole = None not in shares and abs(sum(filter(None, shares)) - 1) < _NEARLY
        if any(shares) and not is_whole:
            raise ValueError("train, val and test must be named together and add to 1")
        if (self.by == "column") != (self.column is not None):
            raise ValueError("`by` column and `column` go together")
        return self

    def as_spec(self) -> dict[str, Any]:
        """Returns what was named, in the words of the ingest spec."""
        return self.model_dump(mode="json", exclude_unset=True)


class DatasetVersionPath(DatasetPath):
    """A version of a dataset."""

    version: int = Field(description="The version's number.")


class VersionThumbnailPath(DatasetVersionPath):
    """A small picture of a dataset version."""

    name: Text = Field(description="SHA-256 of the picture, and `.jpg`.")


class DatasetVersionOut(BaseModel):
    """A dataset version."""

    version: int
    parent: int | None = Field(description="The version that it was made from.")
    images: int
    quarantine: int = Field(description="Pictures that are kept and not used.")
    classes: list[str]
    size_bytes: int
    fingerprint: str
    job_id: int = Field(description="The ingest job that made it.")
    changes: dict[str, Any] | None = Field(
        description="`parent_version`, `counts` and `sentences` of the diff."
    )
    created_at: int = Field(description="Milliseconds since 1970.")


class DatasetDiff(BaseModel):
    """What a version changed against its parent.

    Each list has 10,000 entries at most; `counts` counts all.
    """

    parent: dict[str, Any]
    counts: dict[str, int] = Field(description="Of all changes, by kind.")
    sentences: list[str]
    added: list[dict[str, Any]]
    removed: list[dict[str, Any]]
    relabelled: list[dict[str, Any]]
    moved: list[dict[str, Any]]
    quarantined: list[dict[str, Any]]
    restored: list[dict[str, Any]]


class DecisionRequest(Strict):
    """What is to become of some pictures."""

    action: Literal["exclude", "quarantine", "restore", "relabel"] = Field(
        description="A picture that is relabelled in quarantine comes back from it."
    )
    images: list[Sha256] = Field(min_length=1, description="SHA-256 of each picture.")
    label: Text | None = Field(
        default=None, max_length=200, description="The new label, of `relabel`."
    )
    reason: Text | None = Field(
        default=None, max_length=500, description="Why, in your own words."
    )

    @model_validator(mode="after")
    def _check_label(self) -> "DecisionRequest":
        if (self.action == "relabel") != bool((self.label or "").strip()):
            raise ValueError("`label` goes with `relabel`, and with nothing else")
        return self


class DecisionsRequest(Strict):
    """Decisions about one version; together they make the next one."""

    version: RowNumber = Field(description="The newest version's number.")
    decisions: list[DecisionRequest] = Field(
        default=[], max_length=1000, description="Carried out one after the other."
    )
    restore: Text | None = Field(
        default=None,
        max_length=500,
        description="All that lie in quarantine for this reason, in its exact words, "
        "are used again, but for those that `decisions` name. The first "
        f"{MAX_IMAGES:,}; `left` says how many stay there.",
    )
    split: SplitRequest | None = Field(default=None, description="How to deal them.")


class DatasetDecided(DatasetAdded):
    """The next version of a dataset, which is being made."""

    left: int = Field(description="Pictures of `restore` that stay in quarantine.")
    notes: list[str] = Field(description="What did not fit, in sentences.")
