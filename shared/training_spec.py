"""What a user asks of a training job, validated once for form, API, CLI and SPEC.json.

Unknown keys are refused by name. Every field carries its meaning, unit and range, and
the API's documentation and the form's help are made from the same descriptions.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from shared.errors import UserError


def is_random(weights: Any) -> bool:
    """Whether these are no weights but random numbers."""
    return _name_weights(weights) is None


def _name_weights(given: Any) -> Any:
    """Returns None for random numbers and any other known word in lower case."""
    named = given.strip().lower() if isinstance(given, str) else given
    if named in ("random", "none", "null"):
        return None
    return named if named == "imagenet" else given


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fit(StrEnum):
    """How a picture of another shape becomes a square."""

    STRETCH = "stretch"
    CROP = "crop"
    PAD = "pad"


class Head(_Frozen):
    """The user's own dense layers on top of the pooled base model."""

    units: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
        default=[],
        max_length=5,
        description="Widths of the hidden dense layers, from the base outwards; "
        "empty means one softmax layer.",
    )
    dropout: float = Field(
        default=0.2,
        ge=0,
        le=0.9,
        description="Share of inputs dropped before each dense layer.",
    )


class Augmentation(_Frozen):
    """Random changes to training pictures, drawn anew in every epoch."""

    horizontal_flip: bool = Field(
        default=True, description="Mirror left and right at random."
    )
    vertical_flip: bool = Field(
        default=False, description="Mirror top and bottom at random."
    )
    rotation: float = Field(
        default=10, ge=0, le=180, description="Largest rotation, degrees either way."
    )
    zoom: float = Field(
        default=0.1, ge=0, le=0.9, description="Largest zoom in or out, as a share."
    )
    shift: float = Field(
        default=0.05,
        ge=0,
        le=0.5,
        description="Largest shift either way, as a share of the side.",
    )
    brightness: float = Field(
        default=0.1,
        ge=0,
        le=0.9,
        description="Largest change of brightness either way, as a share.",
    )
    measured: bool = Field(
        default=False,
        description="Make only those changes, flips among them, under which the frozen "
        "base still tells the classes apart: measured on the validation split before "
        "the training.",
    )


class Optimizer(StrEnum):
    """Keras optimizers on offer."""

    ADAM = "adam"
    ADAMW = "adamw"
    SGD = "sgd"
    RMSPROP = "rmsprop"


class LearningRateSchedule(StrEnum):
    """What becomes of the learning rate within a phase."""

    COSINE = "cosine"
    CONSTANT = "constant"
    PLATEAU = "plateau"


class CheckpointEvery(_Frozen):
    """How often the complete resumable state is saved."""

    epochs: int | None = Field(
        default=None, ge=1, le=1000, description="Every so many epochs."
    )
    steps: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Every so many batches."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "`checkpoint_every` needs either `epochs` or `steps`, not both. "
                f"Received: epochs={self.epochs}, steps={self.steps}."
            )
        return self


class TrainingSpec(_Frozen):
    """One training run, validated and frozen. Single-label classification only.

    Every image has exactly one label; the head ends in a softmax over the classes.
    """

    base_model: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        default="EfficientNetLite0",
        description="The pretrained network without its top (see the base models).",
    )
    weights: Annotated[str | None, BeforeValidator(_name_weights)] = Field(
        default="imagenet",
        max_length=1024,
        description="`imagenet`, `random` (or null) to train from scratch, or the path "
        "of a weights file under a folder that the server may read.",
    )
    image_size_px: int | None = Field(
        default=None,
        ge=32,
        le=1024,
        description="Side of the square the pictures are brought to, in pixels; "
        "null means the base model's native size.",
    )
    fit: Fit = Field(
        default=Fit.STRETCH,
        description="How other shapes become a square: stretch, crop (centre) or pad.",
    )
    feature_maps: Literal["last", "blocks"] = Field(
        default="last",
        description="What the head sees of the base: `last`, the mean of its last map; "
        "or `blocks`, mean and deviation of its blocks' maps too, which tell textures "
        "and small marks.",
    )
    head: Head = Field(default=Head(), description="The user's own dense layers.")
    head_start: Literal["random", "logistic"] = Field(
        default="random",
        description="What the head's weights begin with: random numbers or, for a "
        "head without hidden layers, the logistic regression on the features that the "
        "first epoch draws from, which it then standardises.",
    )
    augmentation: Augmentation = Field(
        default=Augmentation(), description="Random changes to training pictures."
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Alpha of mixup in fine-tuning: blends pairs of pictures and "
        "their labels, by shares drawn from Beta(alpha, alpha); 0 is off.",
    )
    cutmix: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Alpha of CutMix in fine-tuning: pastes a rectangle of one picture "
        "into another, its share drawn from Beta(alpha, alpha); 0 is off. With "
        "`mixup` on too, each batch gets one of the two.",
    )
    batch_size: int = Field(
        default=32,
        ge=1,
        le=1024,
        description="Images that go through the network at once. Where they do not "
        "fit the memory, they go in smaller parts, with the same result.",
    )
    gradient_accumulation_steps: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Batches whose gradients are added before each update of the "
        "weights: an update then learns from this many times `batch_size` images.",
    )
    frozen_epochs: int = Field(
        default=40,
        ge=0,
        le=1000,
        description="Epochs that train the head alone, on the frozen base's features.",
    )
    frozen_learning_rate: float = Field(
        default=3e-3, gt=0, le=10, description="Learning rate of the frozen phase."
    )
    feature_views: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Cached views per training image in the frozen phase: one is the "
        "plain picture, each further one an augmented copy. With as many epochs, each "
        "epoch draws from one view more, so training begins after the first is there.",
    )
    fine_tune_epochs: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Epochs that train the unfrozen base with the head; 0 skips it.",
    )
    fine_tune_learning_rate: float = Field(
        default=1e-5, gt=0, le=10, description="Learning rate of the fine-tune phase."
    )
    unfreeze_from: str | float = Field(
        default=0.7,
        description="First layer of the base that is trained in fine-tuning: its "
        "name, or a share of the depth from 0 (all) to 1 (none).",
    )
    batch_norm: Literal["frozen", "trained"] = Field(
        default="frozen",
        description="BatchNormalization of the trained layers in fine-tuning: `frozen` "
        "keeps the statistics of the pretrained base, `trained` learns the dataset's, "
        "which needs passes of 16 images or more.",
    )
    first_layer_rate: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Learning rate of the first trained layer of the base, as a share "
        "of the head's; the layers between rise by equal factors. 1 gives all the "
        "same rate.",
    )
    weight_averaging: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Momentum of the running average of the weights, which is judged "
        "and published in place of the last step's; 0.99 looks back about a hundred "
        "steps, 0 is off.",
    )
    optimizer: Optimizer = Field(
        default=Optimizer.ADAMW, description="Keras optimizer of both phases."
    )
    learning_rate_schedule: LearningRateSchedule = Field(
        default=LearningRateSchedule.COSINE,
        description="What becomes of each phase's learning rate: `cosine` falls to "
        "zero over its epochs, `constant` stays (both after a short warm-up), "
        "`plateau` is cut whenever `monitor` has stopped improving.",
    )
    plateau_factor: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="What `plateau` multiplies the learning rate by.",
    )
    plateau_patience: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Epochs without improvement after which `plateau` cuts the "
        "learning rate, and again after as many more; less than "
        "`early_stopping_patience`, or the phase ends first.",
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="`balanced` weighs each class by the inverse of its frequency.",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, le=0.5, description="Share of the label spread evenly."
    )
    test_time_augmentation: bool = Field(
        default=False,
        description="The published model averages its answers over the mirror images "
        "that `augmentation` allows: twice or four times the work per picture.",
    )
    checkpoint_every: CheckpointEvery = Field(
        default=CheckpointEvery(epochs=1),
        description="How often the resumable state is saved: epochs or steps.",
    )
    monitor: Literal["val_loss", "val_accuracy"] = Field(
        default="val_loss",
        description="What decides which weights are best and when to stop early.",
    )
    save_best_only: bool = Field(
        default=True,
        description="Publish the best weights by `monitor`, not the last. Resuming "
        "always continues from the last checkpoint.",
    )
    early_stopping_patience: int | None = Field(
        default=8,
        ge=1,
        le=1000,
        description="Epochs without improvement that end a phase; null never does.",
    )
    seed: int = Field(
        default=0, ge=0, le=2**31 - 1, description="Seed of every random draw."
    )
    deterministic: bool | None = Field(
        default=None,
        description="Bit-identical runs on one machine; null means on for CPU and "
        "off for GPU.",
    )

    @model_validator(mode="after")
    def _has_phases_for_what_it_asks(self) -> Self:
        if self.frozen_epochs + self.fine_tune_epochs < 1:
            raise ValueError(
                "`frozen_epochs` and `fine_tune_epochs` must not both be 0."
            )
        if self.head_start == "logistic" and self.head.units:
            raise ValueError(
                "`head_start` must be 'random' for a head with hidden layers. "
                f"Received: head.units={self.head.units}."
            )
        if self.head_start == "logistic" and not self.frozen_epochs:
            raise ValueError(
                "`head_start` must be 'random' where `frozen_epochs` is 0: the "
                "regression begins the frozen phase. Received: frozen_epochs=0."
            )
        if self.augmentation.measured and not self.frozen_epochs:
            raise ValueError(
                "`augmentation.measured` needs a frozen phase: it is the frozen base "
                "that judges. Give `frozen_epochs` 1 or more, or turn it off. "
                "Received: frozen_epochs=0."
            )
        augmentation = self.augmentation
        flips = augmentation.horizontal_flip or augmentation.vertical_flip
        if self.test_time_augmentation and not (flips or augmentation.measured):
            raise ValueError(
                "`test_time_augmentation` needs `augmentation.horizontal_flip` or "
                "`augmentation.vertical_flip`: it averages over mirror images."
            )
        if isinstance(self.unfreeze_from, float | int) and not (
            0 <= self.unfreeze_from <= 1
        ):
            raise ValueError(
                "`unfreeze_from` must be a layer's name or a share from 0 to 1. "
                f"Received: unfreeze_from={self.unfreeze_from}."
            )
        return self


def parse_training_spec(fields: Any) -> TrainingSpec:
    """Validates the mapping `fields`; raises `UserError` naming every bad field."""
    try:
        return TrainingSpec.model_validate(fields)
    except ValidationError as error:
        raise _user_error(error) from error


def _user_error(error: ValidationError) -> UserError:
    sentences: list[str] = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            sentences.append(f"`{place}` is not a training setting.")
        elif not place:
            sentences.append(problem["msg"].removeprefix("Value error, "))
        else:
            message = problem["msg"].removeprefix("Value error, ")
            sentences.append(
                f"`{place}`: {message[0].lower()}{message[1:]}. "
                f"Received: {problem['input']!r}."
            )
    first = error.errors()[0]["loc"]
    return UserError(" ".join(sentences), field=".".join(str(p) for p in first) or None)
