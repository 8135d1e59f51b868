"""What the API takes and gives of the queue, as pydantic models."""

from pydantic import BaseModel, Field

from shared.job_order_store import Step
from shared.job_status import JobKind
from web.api.schemas import JobOut, PageQuery, RowNumber, Strict, Text


class QueueQuery(PageQuery):
    """Which waiting jobs to list."""

    kind: JobKind = Field(
        default=JobKind.TRAIN, description="Each kind has workers of its own."
    )


class MoveRequest(Strict):
    """Where a waiting job is to go: exactly one of these."""

    to: Step | None = Field(
        default=None, description="Before or behind all others, or past one."
    )
    before: RowNumber | None = Field(
        default=None, description="The job that it shall stand directly before."
    )
    after: RowNumber | None = Field(
        default=None, description="The job that it shall stand directly after."
    )


class PriorityRequest(Strict):
    """Another priority."""

    priority: int = Field(ge=-100, le=100, description="Higher goes first.")


class _QueueRequest(Strict):
    queue: Text = Field(min_length=1, max_length=64, description="The queue's name.")


class PauseQueueRequest(_QueueRequest):
    """A queue from which no more jobs shall be started."""

    running_too: bool = Field(
        default=False, description="Ask its running jobs to save their state and stop."
    )


class ResumeQueueRequest(_QueueRequest):
    """A queue from which jobs shall be started again."""

    paused_too: bool = Field(
        default=False, description="Put every paused job of the queue back into it."
    )


class QueueAnswer(BaseModel):
    """What became of the jobs of a queue."""

    queue: str
    jobs: list[int] = Field(description="Jobs that were asked to stop, or put back.")


class QueueStateOut(BaseModel):
    """One queue."""

    name: str
    queued: int
    running: int
    paused: int
    workers: int
    paused_at: int | None = Field(description="Milliseconds since 1970; null: open.")


class QueueStates(BaseModel):
    """Every queue."""

    items: list[QueueStateOut]


class WaitingOut(JobOut):
    """A job that waits, in its place."""

    position: int = Field(description="From 1, the next one to start.")
    queue: str = Field(description="The workers' queue that it waits in.")
    not_before: int = Field(description="Milliseconds since 1970; 0 without a wait.")
    expected_start_at: int | None = Field(description="Null: nobody can tell.")
    expected_end_at: int | None = Field(description="Null: nobody can tell.")


class WaitingList(BaseModel):
    """One page of what waits."""

    items: list[WaitingOut]
    total: int
    page: int
    page_size: int
