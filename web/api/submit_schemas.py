"""What the API takes of a submission, as pydantic models."""

from typing import Annotated, Any

from pydantic import AwareDatetime, Field, model_validator

from web.api.schemas import RowNumber, Strict, Text

LARGEST = 2**53  # whole numbers up to it are exact in JSON
Number = Annotated[int | float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]


class RangeRequest(Strict):
    """Numbers to draw from."""

    low: Number = Field(description="The lowest.")
    high: Number = Field(description="The highest.")
    log: bool = Field(default=False, description="Draw evenly by magnitude.")


class SweepRequest(Strict):
    """Many ways to train that differ in what is to be compared."""

    grid: dict[str, list[Any]] = Field(
        default={}, description="Values by setting; every combination is trained."
    )
    random: dict[str, list[Any] | RangeRequest] = Field(
        default={}, description="What settings are drawn from, for each trial anew."
    )
    trials: int = Field(
        default=1, ge=1, le=2000, description="Draws of each combination."
    )
    seed: int = Field(default=0, description="Of the draws.")


class SpecRequest(Strict):
    """One way to train, or with `sweep` many."""

    preset: str | None = Field(default=None, description="fast, balanced or best.")
    overrides: dict[str, Any] = Field(
        default={}, description="Fields of the training spec on top of the preset."
    )
    sweep: SweepRequest | None = Field(
        default=None, description="Settings that vary on top of the overrides."
    )


class JobsRequest(Strict):
    """Jobs to submit: every dataset with every spec."""

    datasets: list[RowNumber | Text] = Field(
        min_length=1, description="Numbers or exact names of datasets."
    )
    specs: list[SpecRequest] | None = Field(
        default=None, description="Ways to train. Defaults to one `fast`."
    )
    spec: SpecRequest | None = Field(default=None, description="The only way to train.")
    model_name: Text | None = Field(
        default=None, description="Publish under this name, not the dataset's."
    )
    queue: Text = Field(default="default", max_length=64, description="Workers' queue.")
    priority: int = Field(default=0, ge=-100, le=100, description="Higher goes first.")
    gpu_mem_mb: int = Field(
        default=0, ge=0, le=2**31, description="Memory that the GPU must have, MiB."
    )
    not_before: AwareDatetime | None = Field(
        default=None, description="Start at this time at the earliest, with its zone."
    )
    preemptible: bool = Field(
        default=False,
        description="They may be stopped for more urgent ones, and go on later.",
    )

    @model_validator(mode="after")
    def _one_kind_of_spec(self) -> "JobsRequest":
        if self.spec is not None and self.specs is not None:
            raise ValueError("give either `spec` or `specs`")
        return self
