"""What the API takes of archives, uploads, places and addresses, as pydantic models."""

from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from shared.errors import UserError
from web.api.schemas import RowNumber, Strict, Text
from web.datasets.add import ADD, Target
from web.datasets.server_path import Wanted

COMPONENTS = "#/components/schemas/"  # of the API's description


class Destination(Strict):
    """Which dataset gets what comes, and how it is dealt into splits."""

    name: Text | None = Field(
        default=None,
        description="The dataset's name. Defaults to that of the first source that is "
        "no table.",
    )
    dataset_id: RowNumber | None = Field(
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

    def target(self, key: str | None) -> Target:
        """Returns it as the use case takes it."""
        return Target(
            name=self.name,
            dataset_id=self.dataset_id,
            mode=self.mode or ADD,
            split=self._split(),
            key=key,
        )

    def _split(self) -> dict[str, Any] | None:
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


class SourceIn(Strict):
    """One source of a dataset: an upload, a path of the server or an address."""

    path: Text | None = Field(
        default=None, description="Absolute path of a folder, label table or archive."
    )
    address: Text | None = Field(
        default=None,
        description="`https://`, `s3://`, `gs://` or `az://`: an archive, a label "
        "table whose lines are addresses or paths beside it, or a storage's folder.",
    )
    upload: Text | None = Field(
        default=None,
        description="Id of a finished upload: an archive; a table that labels what "
        "comes with it; or one alone, of addresses or of files below `root`.",
    )
    sha256: Text | None = Field(
        default=None, description="Of the upload, as the file was sent."
    )
    labels: Text | None = Field(
        default=None,
        description="Absolute path of its label table; of an address also the name of "
        "a file in it, and of an upload nothing else.",
    )
    root: Text | None = Field(
        default=None,
        description="Of a label table: the folder or address below which its files "
        "lie. Defaults to its own.",
    )


class AddRequest(Destination, SourceIn):
    """What becomes a dataset or a version of one: one source, or `sources`."""

    sources: list[SourceIn] | None = Field(
        default=None, description="Several sources that come in together."
    )

    def wanted(self) -> list[Wanted]:
        """Returns the sources as the use case takes them.

        Raises:
            UserError: When there is one beside `sources`.
        """
        alone = self.model_dump(include=set(SourceIn.model_fields))
        if self.sources is None:
            return [Wanted(**alone)]
        if any(alone.values()):
            raise UserError(
                "`sources` stands alone: put `path`, `address`, `upload` and what "
                "goes with them into its entries.",
                field="sources",
            )
        return [Wanted(**one.model_dump()) for one in self.sources]


class UploadPath(BaseModel):
    """An upload."""

    upload_id: str = Field(description="The upload's id.")


class UploadOut(BaseModel):
    """An upload."""

    id: str
    filename: str
    offset: int = Field(description="Bytes that have come.")
    length: int | None = Field(description="All its bytes, once they are known.")
    fingerprint: str | None = Field(
        description="By which the client that made it knows its file again."
    )
    sha256: str | None = Field(description="Of the whole, once it was computed.")
    expires_at: int | None = Field(
        description="Milliseconds since 1970; each piece renews. Null while a job that "
        "had it keeps it."
    )
    had_by: int | None = Field(
        description="The job that had it, and failed or was cancelled: the upload may "
        "be named again."
    )


class UploadList(BaseModel):
    """Uploads."""

    items: list[UploadOut]
