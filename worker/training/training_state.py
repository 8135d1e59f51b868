"""Where a training stands: everything a resume needs besides the arrays.

Numbers survive JSON exactly (Python writes the shortest text that reads back as the
same float), so a resumed epoch ends with the very metrics of an uninterrupted one.
"""

import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any

FROZEN = "frozen"
FINE_TUNE = "fine_tune"
EVALUATE = "evaluate"
EXPORT = "export"


@dataclass
class Best:
    """The weights that would be published now, and what earned them the place.

    Args:
        phase: The phase that made them.
        epoch: Its epoch, counted from 0.
        step: The global step.
        monitor: The metric that decided.
        value: Its value there.
    """

    phase: str
    epoch: int
    step: int
    monitor: str
    value: float


@dataclass
class TrainingState:
    """One point of a training, between two batches.

    Args:
        phase: `frozen`, `fine_tune`, or `evaluate` once training has ended.
        epoch: Epochs of this phase that are complete.
        batch: Steps of the epoch under way that are complete.
        step: Updates of the weights over all phases: the global step.
        sums: Sums over the images of the epoch under way: `loss`, `accuracy`,
            `images`.
        epoch_seconds: Wall time of the epoch under way: `waited` for data, `spent` on
            its batches in all.
        best: What would be published now.
        best_value: Best value of the monitored metric in this phase.
        waited_epochs: Epochs of this phase since `best_value`.
        metrics_seq: Metric points written so far.
        seconds: Wall time spent, by phase.
        stalled_seconds: How much of it no step was trained in because of a checkpoint.
        facts: What a later attempt must repeat: compute threads, the engine of the
            feature pass and its digest, the dataset's fingerprint, how often the
            passes of a step were halved.
    """

    phase: str = FROZEN
    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    epoch_seconds: dict[str, float] = field(default_factory=dict)
    best: Best | None = None
    best_value: float | None = None
    waited_epochs: int = 0
    metrics_seq: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    stalled_seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def checkpoint_stall(self) -> float:
        """The share of the training's time that its steps waited for checkpoints."""
        trained = self.seconds.get(FROZEN, 0.0) + self.seconds.get(FINE_TUNE, 0.0)
        return self.stalled_seconds / trained if trained else 0.0

    @property
    def at_phase_start(self) -> bool:
        """Whether no batch of this phase has been trained: its model is still new."""
        return self.epoch == 0 and self.batch == 0

    def enter(self, phase: str) -> None:
        """Moves to the start of `phase`; what counts within a phase starts anew."""
        self.phase = phase
        self.epoch = self.batch = self.waited_epochs = 0
        self.sums = {}
        self.epoch_seconds = {}
        self.best_value = None

    def add_batch(self, logs: dict[str, float], images: int) -> None:
        """Counts one trained batch of `images` images with its mean metrics."""
        self.step += 1
        self.batch += 1
        for name, value in (*logs.items(), ("images", 1.0)):
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * images

    def end_epoch(self) -> dict[str, float]:
        """Counts the epoch and returns its means over the images."""
        images = self.sums.pop("images", 0.0)
        means = {name: total / images for name, total in self.sums.items()}
        self.sums = {}
        self.batch = 0
        self.epoch += 1
        return means

    def take_epoch_seconds(self) -> dict[str, float]:
        """Returns the wall time of the epoch that ended; the next counts from zero."""
        taken = {name: round(spent, 6) for name, spent in self.epoch_seconds.items()}
        self.epoch_seconds = {}
        return taken

    def to_json(self) -> dict[str, Any]:
        """Returns the state as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainingState":
        """Reads what `to_json` wrote; keys of other versions are ignored."""
        known = {item.name for item in fields(cls)}
        state = cls(**{key: value for key, value in values.items() if key in known})
        if values.get("best"):
            state.best = Best(**values["best"])
        return state


class Stopwatch:
    """Adds wall time to a phase's seconds.

    Args:
        seconds: Where it adds, by phase.
        phase: The phase that runs now.
        started: When it began, on the monotonic clock. Defaults to now.
    """

    def __init__(
        self, seconds: dict[str, float], phase: str, *, started: float | None = None
    ) -> None:
        self.seconds = seconds
        self._phase = phase
        self._mark = time.monotonic() if started is None else started

    def lap(self) -> None:
        """Books the time since the last lap."""
        now = time.monotonic()
        spent = self.seconds.get(self._phase, 0.0) + now - self._mark
        self.seconds[self._phase] = round(spent, 3)
        self._mark = now

    def switch(self, phase: str) -> None:
        """Books the time of the phase that ends; `phase` begins."""
        self.lap()
        self._phase = phase
