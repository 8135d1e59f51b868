"""What the API takes and gives of forecasts, findings and promises."""

from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from web.api.schemas import DatasetPath, JobOut, PageQuery, RowNumber, Strict, Text
from web.api.version_schemas import SplitRequest
from web.datasets.clusters import MOST_NAMED
from web.datasets.decision import MAX_IMAGES
from web.datasets.findings import FindingKind

FindingAction = Literal["accept", "relabel", "exclude", "quarantine"]


class VersionQuery(Strict):
    """Which version of the dataset."""

    version: RowNumber | None = Field(
        default=None, description="Its number. Defaults to the newest."
    )


class ForecastRequest(VersionQuery):
    """What to forecast."""

    again: bool = Field(
        default=False, description="Also where there is a forecast already."
    )
    base_models: list[Text] | None = Field(
        default=None,
        max_length=20,
        description="Base models to compare, beside the default one. Others than those "
        "of the newest forecast are asking again. Defaults to some that the worker "
        "has: one of each family before a second of any, first those that cost about "
        "as much.",
    )


class ComparedOut(BaseModel):
    """How far a forecast has looked for the best base model."""

    compared: int = Field(description="Base models that it compares.")
    available: int = Field(description="Those that could be had by now.")
    sentence: str | None = Field(description="Null where all of them were compared.")


class ForecastOut(BaseModel):
    """How it stands with the forecast of a dataset version."""

    dataset_id: int
    version: int
    job: JobOut | None = Field(description="The newest one that made or makes it.")
    created: bool = Field(
        default=False, description="Whether this very request put the job in the queue."
    )
    created_at: int | None = Field(description="When the forecast was made.")
    forecast: dict[str, Any] | None = Field(
        description="Difficulty, presets, learning curve, base models, counts of "
        "findings, and the `worker` on which its minutes were timed; null until it is "
        "made."
    )
    compared: ComparedOut | None = Field(
        description="Of the base models; null until there is a forecast."
    )


class FindingsQuery(PageQuery, VersionQuery):
    """Which findings to list."""

    kind: FindingKind | None = Field(default=None, description="Only of this kind.")
    accepted: bool | None = Field(
        default=None, description="Only those that are accepted, or are not."
    )


class PictureOut(BaseModel):
    """A picture, or a file, that a finding is about."""

    sha256: str | None = Field(description="Null for a file that became no picture.")
    name: str
    label: str
    split: str
    thumbnail: str | None = Field(description="Address of its small copy.")


class FindingOut(BaseModel):
    """One thing that the doctor says of a dataset version."""

    key: str = Field(description="Its name in decisions.")
    kind: FindingKind
    score: float = Field(description="How bad it is among its kind, 0 to 1.")
    sentence: str
    action: str = Field(
        description="What is suggested: relabel, exclude, quarantine, split or none."
    )
    pictures: list[PictureOut] = Field(description="The first 24 of them.")
    pictures_total: int
    labels: list[str] = Field(description="All that its pictures have, each once.")
    suggested_label: str | None
    group: int | None = Field(description="Pictures of one number belong together.")
    accepted: bool


class FindingList(BaseModel):
    """One page of findings."""

    dataset_id: int
    version: int
    counts: dict[str, int] = Field(description="Of each kind, not accepted.")
    items: list[FindingOut]
    total: int
    page: int
    page_size: int


class FindingChoice(Strict):
    """What is to become of one finding."""

    key: Text = Field(max_length=64, description="Of the finding.")
    action: FindingAction
    label: Text | None = Field(
        default=None,
        max_length=200,
        description="The new label, of `relabel`. Defaults to the suggested one.",
    )


class FindingDecisions(Strict):
    """What is to become of findings; all but `accept` makes the next version."""

    version: RowNumber = Field(description="The newest version's number.")
    choices: list[FindingChoice] = Field(default=[], max_length=10_000)
    kind: FindingKind | None = Field(
        default=None,
        description="All findings of this kind that are not accepted, too. Their "
        "pictures in the test split stay as they are, unless `include_test`.",
    )
    action: FindingAction | None = Field(default=None, description="For `kind`.")
    label: Text | None = Field(
        default=None, max_length=200, description="For `kind`, of `relabel`."
    )
    include_test: bool = Field(
        default=False, description="Whether `kind` means test pictures, too."
    )
    keep: Literal["test", "first", "none"] = Field(
        default="test",
        description="Which of several copies stays: the one in test, else in "
        "validation, else the first; the first; or none.",
    )
    split: SplitRequest | None = Field(default=None, description="How to deal them.")

    @model_validator(mode="after")
    def _check_bulk(self) -> "FindingDecisions":
        if (self.kind is None) != (self.action is None):
            raise ValueError("`kind` and `action` go together")
        counts = Counter(choice.key for choice in self.choices)
        if twice := [key for key, count in counts.items() if count > 1]:
            raise ValueError(f"choose once for each finding: {min(twice)} stands twice")
        return self


class ClustersOut(BaseModel):
    """Clusters of pictures that look alike, beside those that ingest finds itself."""

    held: int = Field(description="Clusters that stay together.")
    left: int = Field(description="Clusters that did not fit, and may be parted.")
    left_images: int = Field(description="The pictures of those.")
    cut: int = Field(
        description=f"Clusters of which only the first {MOST_NAMED} pictures are held."
    )
    unlisted: int = Field(
        description="Clusters that were too many to be listed, at most."
    )


class FindingsDecided(BaseModel):
    """What came of it."""

    accepted: int = Field(description="Findings that are not shown any more.")
    passed_over: int = Field(
        description="Findings that cannot have what was chosen for them."
    )
    passed_over_because: dict[str, int] = Field(
        description="How many of those, by why: a sentence each."
    )
    left_in_test: int = Field(description="Test pictures left as they are.")
    left: int = Field(
        description=f"Findings about more than the {MAX_IMAGES:,} pictures that one "
        "request decides about: the worst are decided, these are there the next time."
    )
    clusters: ClustersOut | None = Field(
        description="Of `split` by duplicates: which pictures are held together."
    )
    notes: list[str] = Field(description="What did not fit, in sentences.")
    images: dict[str, int] = Field(description="Pictures, by what becomes of them.")
    job_id: int | None = Field(description="Makes the next version; null for none.")


class ThumbnailPath(DatasetPath):
    """A small picture of a forecast."""

    job_id: int = Field(description="The job that made the forecast.")
    name: Text = Field(description="SHA-256 of the picture, and `.jpg`.")


class PromiseOut(BaseModel):
    """What was promised of a training when it was submitted, and what it delivered."""

    job_id: int
    forecast_id: int
    dataset_name: str
    preset: str
    accuracy_low: float = Field(description="Accuracies are shares, 0 to 1.")
    accuracy: float
    accuracy_high: float
    seconds_low: float | None = Field(description="Null: nobody could tell.")
    seconds: float | None
    seconds_high: float | None
    made_at: int
    delivered_accuracy: float | None
    delivered_seconds: float | None = Field(
        description="Null where it took more than one attempt, or ran on another "
        "worker than was timed."
    )
    delivered_at: int | None


class KeptOut(BaseModel):
    """How well promises of one number were kept."""

    count: int = Field(description="Trainings that delivered.")
    covered: float = Field(description="The share that ended within its range.")
    median_error: float = Field(description="Half were no further off the middle.")


class PromiseList(BaseModel):
    """One page of promises, and how well all of them were kept."""

    accuracy: KeptOut | None
    minutes: KeptOut | None
    items: list[PromiseOut]
    total: int
    page: int
    page_size: int
