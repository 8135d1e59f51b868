"""What the API takes of uploads and of places on the server, as pydantic models."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from web.api.schemas import Strict, Text
from web.row_numbers import MAX_NUMBER


class Destination(Strict):
    """Which dataset gets what comes, and how it is dealt into splits."""

    dataset_id: Annotated[int, Field(ge=0, le=MAX_NUMBER)] | None = Field(
        default=None, description="A dataset that gets a new version of it."
    )
    mode: Literal["add", "replace"] | None = Field(
        default=None,
        description="Of a new version: `add` to the newest (default), or `replace` it.",
    )
    split_by: Literal["duplicates", "folder", "column"] | None = Field(
        default=None, description="What one split must hold whole."
    )
    split_column: Text | None = Field(
        default=None,
        max_length=200,
        description="Of the label table, for `split_by` column.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> "Destination":
        if self.mode and self.dataset_id is None:
            raise ValueError("`mode` goes with `dataset_id`")
        if (self.split_by == "column") != (self.split_column is not None):
            raise ValueError("`split_by` column and `split_column` go together")
        return self

    @property
    def split(self) -> dict[str, Any] | None:
        """How pictures are dealt, in the words of the ingest spec."""
        if self.split_by is None:
            return None
        column = {"column": self.split_column} if self.split_column else {}
        return {"by": self.split_by, **column}


class UploadQuery(Destination):
    """How an uploaded archive is called, and where it goes."""

    filename: str | None = Field(
        default=None,
        description="The archive's name; its ending says what it is. Needed with one.",
    )
    name: Text | None = Field(
        default=None, description="The dataset's name. Defaults to the file's."
    )


class ServerPath(Destination):
    """A dataset that lies on the server."""

    path: Text = Field(description="Absolute path of a folder, CSV or archive.")
    labels: Text | None = Field(default=None, description="Absolute path of a CSV.")
    name: Text | None = Field(default=None, description="Defaults to the path's.")
