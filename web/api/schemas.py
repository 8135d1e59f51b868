"""What the API takes and gives, as pydantic models: also its documentation."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

from shared.job_status import JobKind, JobStatus
from web.row_numbers import MAX_NUMBER


def _refuse_odd_characters(text: str) -> str:
    if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("holds a character that cannot be stored")
    return text


def _refuse_truth(value: Any) -> Any:
    if isinstance(value, bool):  # which Python takes for 0 or 1
        raise ValueError("is neither a number nor a name")  # noqa: TRY004 - pydantic's
    return value


Text = Annotated[str, AfterValidator(_refuse_odd_characters)]
RowNumber = Annotated[int, BeforeValidator(_refuse_truth), Field(ge=0, le=MAX_NUMBER)]


class Strict(BaseModel):
    """Refuses unknown keys by name."""

    model_config = ConfigDict(extra="forbid")


class PageQuery(Strict):
    """Which page of a list."""

    page: int = Field(default=1, ge=1, le=1_000_000, description="From 1.")
    page_size: int = Field(default=50, ge=1, le=500, description="Rows a page.")


class DatasetQuery(PageQuery):
    """Which datasets to list."""

    search: Text | None = Field(default=None, description="A part of the name.")


class JobQuery(PageQuery):
    """Which jobs to list."""

    state: JobStatus | None = Field(default=None, description="Only in this state.")
    kind: JobKind | None = Field(default=None, description="Only of this kind.")
    dataset_id: int | None = Field(
        default=None, ge=0, le=MAX_NUMBER, description="Only on this dataset."
    )
    group_key: Text | None = Field(default=None, description="Only of this submission.")


class DatasetPath(BaseModel):
    """A dataset."""

    dataset_id: int = Field(description="The dataset's number.")


class JobPath(BaseModel):
    """A job."""

    job_id: int = Field(description="The job's number.")


class GroupPath(BaseModel):
    """A submission."""

    group_key: Text = Field(description="The submission's key.")


class GroupVerbPath(GroupPath):
    """What to ask of all jobs of a submission."""

    verb: Literal["cancel", "pause", "resume", "finish", "retry", "restart"] = Field(
        description="What to ask."
    )


class ModelPath(BaseModel):
    """A model."""

    name: Text = Field(description="The model's name.")


class VersionPath(ModelPath):
    """A model version."""

    version: Text = Field(description="A version's number, or `latest`.")


class RetryRequest(Strict):
    """How to try again."""

    from_scratch: bool = Field(
        default=False, description="Forget its checkpoints and begin anew."
    )


class DatasetOut(BaseModel):
    """A dataset and its newest version."""

    id: int
    name: str
    owner: str
    state: str = Field(description="ready, reading, failed, cancelled or empty.")
    version: int | None
    images: int | None
    classes: list[str]
    size_bytes: int | None
    fingerprint: str | None = None
    created_at: int = Field(description="Milliseconds since 1970.")


class DatasetDetail(DatasetOut):
    """A dataset with the report of its newest version."""

    ingest_job: int | None = Field(description="The newest job that read it.")
    report: dict[str, Any] | None


class DatasetList(BaseModel):
    """One page of datasets."""

    items: list[DatasetOut]
    total: int
    page: int
    page_size: int


class DatasetAdded(BaseModel):
    """A dataset that is being read."""

    id: int
    name: str
    job_id: int = Field(description="The ingest job; follow it.")
    created: bool = Field(description="False when the same request was made before.")


class JobOut(BaseModel):
    """A job."""

    id: int
    kind: str
    title: str
    state: str
    desired: str = Field(description="run, pause, finish or cancel: what was asked.")
    owner: str
    group_key: str | None
    dataset_id: int | None
    model_name: str | None
    phase: str | None
    progress_done: int
    progress_total: int
    progress_unit: str | None = Field(description="What is counted: images, bytes ...")
    rate: float | None = Field(
        description="So many `progress_unit` a second, while the end can be told."
    )
    eta_seconds: float | None = Field(description="Seconds left of the phase.")
    attempts: int
    last_step: int
    priority: int = Field(
        description="Higher goes first: -100 to 100, and 101 of the forecast that "
        "comes with a dataset version."
    )
    preemptible: bool = Field(description="It may be stopped for a more urgent one.")
    gives_way_to: int | None = Field(description="The job for which it stops now.")
    reason: str | None
    failure_code: str | None
    result: dict[str, Any] | None
    published: str | None = Field(description="name:version, when it succeeded.")
    created_at: int
    started_at: int | None
    ended_at: int | None


class JobDetail(JobOut):
    """A job with its spec, attempts, checkpoints and notes."""

    spec: dict[str, Any]
    attempt_list: list[dict[str, Any]]
    checkpoints: list[dict[str, Any]]
    notes: list[dict[str, Any]]


class GroupOut(BaseModel):
    """One submission."""

    group_key: str
    states: dict[str, int] = Field(description="How many jobs are in each state.")
    jobs: list[JobOut] = Field(description="In the order of the submission.")


class GroupAnswer(BaseModel):
    """What became of a request to all jobs of a submission."""

    jobs: list[int] = Field(description="Jobs that were asked.")
    left: int = Field(description="How many others do not admit it in their states.")


class JobList(BaseModel):
    """One page of jobs."""

    items: list[JobOut]
    total: int
    page: int
    page_size: int


class Submitted(BaseModel):
    """The jobs of one submission."""

    group_key: str
    created: int = Field(description="How many this very request made.")
    jobs: list[JobOut]
    warnings: list[str] = Field(
        default=[],
        description="What will be missing, disk or memory, as forecasts tell. The jobs "
        "are submitted all the same.",
    )


class MetricsOut(BaseModel):
    """Learning curves, one row an epoch."""

    epochs: list[dict[str, Any]]


class EventsOut(BaseModel):
    """The end of a job's log, as its newest attempt spoke."""

    events: list[dict[str, Any]]


class VersionOut(BaseModel):
    """A model version."""

    name: str
    version: int
    job_id: int | None
    accuracy: float | None
    interval: list[float] | None
    sha256: str
    size_bytes: int
    created_at: int
    archive: str = Field(description="Path of the SavedModel archive.")


class VersionDetail(VersionOut):
    """A model version with its evaluation."""

    evaluation: dict[str, Any]
    files: dict[str, Any]


class ModelOut(BaseModel):
    """A model and its newest version."""

    name: str
    owner: str
    versions: int
    latest: VersionOut | None


class ModelDetail(ModelOut):
    """A model and all its versions."""

    all_versions: list[VersionOut]


class ModelList(BaseModel):
    """One page of models."""

    items: list[ModelOut]
    total: int
    page: int
    page_size: int


class WorkerBaseModels(BaseModel):
    """Which base models' ImageNet weights a worker's machine has."""

    ready: list[str] = Field(description="Names of those whose weights are there.")
    folders: list[str] = Field(description="Where it looks for weight files.")
    download: bool = Field(description="Whether it fetches what is not there.")


class WorkerOut(BaseModel):
    """A worker."""

    id: int
    name: str
    host: str
    slot: str
    alive: bool
    status: str
    reason: str | None
    kinds: list[str]
    queues: list[str]
    job_id: int | None
    seen_at: int
    base_models: WorkerBaseModels | None = Field(
        description="Null where it trains nothing or has not told yet."
    )


class WorkerList(BaseModel):
    """All workers."""

    items: list[WorkerOut]


class Deleted(BaseModel):
    """What went, and what stayed."""

    deleted: str
    went: list[str]
    stayed: list[str]
    counts: dict[str, int]
    size_bytes: int


class AvailabilityOut(BaseModel):
    """Whether a base model's ImageNet weights can be had."""

    state: Literal["ready", "partly", "download", "missing", "unknown"] = Field(
        description="`ready` on every training worker, `partly` on some, fetched at "
        "first use (`download`), `missing`; `unknown` while no such worker is there."
    )
    words: str = Field(description="The same for a person to read.")
    advice: str | None = Field(description="What to put where, if anything is missing.")
    ready_on: list[str] = Field(description="Names of the workers that have them.")


class BaseModelOut(BaseModel):
    """A pretrained network on offer."""

    name: str
    family: str
    native_size_px: int
    parameters: int
    licence: str
    works_offline: bool
    weights_file: str = Field(description="File name of the ImageNet weights.")
    weights_source: str = Field(description="Where the file comes from.")
    availability: AvailabilityOut


class CatalogOut(BaseModel):
    """What a job may be made of."""

    presets: list[str]
    base_models: list[BaseModelOut]
    training_spec: dict[str, Any] = Field(description="JSON Schema of a spec.")
